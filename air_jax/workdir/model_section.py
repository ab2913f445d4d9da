"""A Flax module as a section of keys and values, and back; needs JAX and Flax only."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from air_jax.checks import require
from air_jax.errors import OptionError, UserError
from air_jax.models import MODELS, SEGMENTERS, Segmenter

SEGMENTER = "segmenter"  # key of a model's section: workdir of a finished segmenter's run, "" for none
NORMALIZATION = "normalization"  # of a segmenter, beside its section `model`
_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_OF_LINEN = {"parent", "name"}


def build_model(
    section: Mapping[str, Any], segmenter: Mapping[str, Any] | None = None, *, prefix: str = "--config."
) -> nn.Module:
    """The Flax module of a config's section `model`.

    Args:
      section: `name`, a key of `MODELS` or `SEGMENTERS`, and the module's options.
      segmenter: section `model` of the segmenter inside it (under "model"), for models that have one.
      prefix: text before a key in messages.

    Raises:
      UserError: an unknown name or option, or a value that an option cannot take.
    """
    name, models = section.get("name"), MODELS | SEGMENTERS
    if not isinstance(name, str) or name not in models:
        raise UserError(f"{prefix}model.name={name!r}: must be one of {', '.join(models)}")
    known = {field.name for field in dataclasses.fields(models[name])} - _OF_LINEN
    options = {}
    for key, value in section.items():
        if key == "name":
            continue
        if key not in known:
            raise UserError(f"{prefix}model.{key}={value!r}: the model {name!r} has no such option")
        options[key] = tuple(value) if isinstance(value, list) else value
    if SEGMENTER in known:
        options[SEGMENTER] = build_segmenter(segmenter, prefix=prefix)
    with naming_key("model", prefix=prefix):
        if "dtype" in options:
            # As the module's default has it, so that equal models share their compiled programs.
            require(options["dtype"] in _DTYPES, "dtype", options["dtype"], f"must be {' or '.join(_DTYPES)}")
            options["dtype"] = _DTYPES[options["dtype"]]
        return models[name](**options)


def build_segmenter(segmenter: Mapping[str, Any] | None, *, prefix: str = "--config.") -> Segmenter | None:
    """The module of `SavedConfig.segmenter`; None without one."""
    if segmenter is None:
        return None
    built = build_model(segmenter["model"], prefix=prefix)
    assert isinstance(built, Segmenter)
    return built


def section_of(model: nn.Module) -> dict[str, Any]:
    """The section of a module, as JSON has it, from which `build_model` makes an equal one.

    A segmenter inside it is left out; it has a section of its own.

    Raises:
      OptionError: the module is none of `MODELS` and `SEGMENTERS`.
    """
    models = MODELS | SEGMENTERS
    names = [name for name, kind in models.items() if type(model) is kind]
    if not names:
        raise OptionError("model", type(model).__name__, f"only models of air_jax have a section: {', '.join(models)}")
    section: dict[str, Any] = {"name": names[0]}
    for field in dataclasses.fields(model):
        if field.name in _OF_LINEN or field.name == SEGMENTER:
            continue
        value = getattr(model, field.name)
        if field.name == "dtype":
            value = jnp.dtype(value).name
        section[field.name] = list(value) if isinstance(value, tuple) else value
    return section


@contextlib.contextmanager
def naming_key(section: str, *, prefix: str = "--config.") -> Iterator[None]:
    """Turns an `OptionError` into a `UserError` that names the key of the config's section."""
    try:
        yield
    except OptionError as error:
        raise UserError(f"{prefix}{section}.{error.option}={error.value!r}: {error.what}") from error
