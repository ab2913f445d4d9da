"""`config.json` of a run: written at its start, read by `load`, `evaluate` and a later start of the same command."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from air_jax.checks import is_integer
from air_jax.errors import UserError, first_line
from air_jax.models import MODELS, SEGMENTERS
from air_jax.runtime.files import read_json, replace_text
from air_jax.workdir.checkpoint import checkpoint_steps
from air_jax.workdir.defaults import Config, default_config
from air_jax.workdir.migration import FORMAT_VERSION, migrate
from air_jax.workdir.model_section import SEGMENTER
from air_jax.workdir.types import check_types

FILE_NAME = "config.json"
# Keys that may differ when a run is resumed: they do not change the trained weights.
_FREE_KEYS = {"compilation_cache", "sharded_jit", "streaming", "watch", "dataset.cache"}
_FREE_KEYS |= {f"refine.{key}" for key in ("field", "num_steps", "update_sigma", "total_sigma", "overlap")}
# Entries of the file that are no keys of the config.
_IMAGE_SHAPE, _VERSION = "image_shape", "format_version"


@dataclasses.dataclass(frozen=True)
class SavedConfig:
    """Content of `config.json`.

    Attributes:
      config: every key of the run; keys that the file lacks have their defaults.
      image_shape: `(*S, C)` of the images that the model is trained on.
      segmenter: the section `model` of the segmenter inside the model and its `normalization`; None without one.
    """

    config: Config
    image_shape: tuple[int, ...]
    segmenter: dict[str, Any] | None = None


def complete(config: Mapping[str, Any]) -> Config:
    """Returns a locked config with every key: those of `config`, and the defaults of its model for the rest.

    Raises:
      UserError: a key is unknown; one line names it.
    """
    completed = _with_defaults(config, prefix="--config.")
    known = flat(default_config(completed.model.name))
    for key, value in flat(completed).items():
        if key not in known:
            raise UserError(
                f"--config.{key}={value!r}: there is no such key; air_jax/workdir/defaults.py has all of them"
            )
    return completed


def write(saved: SavedConfig, workdir: Path) -> None:
    """Writes `config.json` to `workdir`."""
    content = {_VERSION: FORMAT_VERSION, **_plain(saved.config), _IMAGE_SHAPE: list(saved.image_shape)}
    if saved.segmenter is not None:
        content[SEGMENTER] = saved.segmenter
    replace_text(workdir / FILE_NAME, json.dumps(content, indent=2) + "\n")


def read(workdir: Path) -> SavedConfig:
    """Reads `config.json` of `workdir`, of this or an older version.

    Raises:
      UserError: there is none, it cannot be read, or its model no longer exists.
    """
    path = Path(workdir) / FILE_NAME
    try:
        if not path.is_file() and path.exists():
            raise UserError(f"{path}: is no file; is {workdir} the workdir of a run?")
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: is no run's config; restore it from a copy, or train again in another workdir")
        image_shape = _image_shape(content.pop(_IMAGE_SHAPE, None), path)
        content = migrate(content, str(path))
        segmenter = content.pop(SEGMENTER, None)
        config = _with_defaults(content, prefix=f"{path}: ")
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; is {workdir} the workdir of a run?") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read ({first_line(error)}); restore it from a copy, or train again in another workdir"
        ) from error
    return SavedConfig(config, image_shape, segmenter)


def flat(config: Config) -> dict[str, Any]:
    """Returns the values of a config by keys such as `"model.num_heads"`, as JSON has them."""
    return _flat(_plain(config))


def check_same_run(config: Config, workdir: Path) -> None:
    """Raises `UserError` when `workdir` holds a run of another config.

    Keys that do not change the trained weights may differ; `num_train_steps` may as well, unless the learning rate
    depends on it.
    """
    if not (workdir / FILE_NAME).exists():
        if checkpoint_steps(workdir / "checkpoints"):
            raise UserError(
                f"{workdir}: has checkpoints but no {FILE_NAME}, so it is not known whose they are; restore it from a "
                "copy, or choose another --workdir"
            )
        return
    old, new = flat(read(workdir).config), flat(config)
    free = _FREE_KEYS | ({"num_train_steps"} if config.schedule == "constant" else set())
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in free)
    if keys:
        differences = ", ".join(f"{key} ({old.get(key)!r} there, {new.get(key)!r} now)" for key in keys)
        raise UserError(
            f"{workdir} holds a run of another config: {differences}; choose another --workdir, or the same values"
        )


def identity(saved: SavedConfig) -> dict[str, Any]:
    """Returns the keys and values, as JSON has them, that determine a run's weights; not the number of steps."""
    free = _FREE_KEYS | {"num_train_steps"}
    found = {key: value for key, value in flat(saved.config).items() if key not in free}
    return found | {_IMAGE_SHAPE: list(saved.image_shape)}


def model_identity(saved: SavedConfig) -> dict[str, Any]:
    """Returns the part of `identity` that the use of the weights depends on; the data may have moved since."""
    keys = (_IMAGE_SHAPE, "dataset.normalization")
    return {
        key: value
        for key, value in identity(saved).items()
        if key in keys or (key.startswith("model.") and key != f"model.{SEGMENTER}")
    }


def check_same_images(image_shape: tuple[int, ...], workdir: Path) -> None:
    """Raises `UserError` when `workdir` holds a run on images of another shape `(*S, C)`."""
    if (workdir / FILE_NAME).exists() and (old := read(workdir).image_shape) != image_shape:
        raise UserError(
            f"{workdir} holds a run on images {list(old)}, not {list(image_shape)}; choose another --workdir"
        )


def _image_shape(value: Any, path: Path) -> tuple[int, ...]:
    valid = isinstance(value, list) and len(value) in (3, 4) and all(is_integer(size) and size > 0 for size in value)
    if not valid:
        raise UserError(
            f"{path}: image_shape is {value!r}; it must be [H, W, C] or [D, H, W, C]; restore it from a copy, or "
            "train again in another workdir"
        )
    return tuple(value)


def _with_defaults(content: Mapping[str, Any], *, prefix: str) -> Config:
    """A locked config with every key: those of `content`, and the defaults of its model for the rest."""
    model = content.get("model")
    if not isinstance(model, Mapping | ConfigDict) or "name" not in model:
        raise UserError(f"{prefix}model={model!r}: must be a section with the name of the model")
    name = model["name"]
    if not isinstance(name, str) or name not in MODELS | SEGMENTERS:
        raise UserError(f"{prefix}model.name={name!r}: must be one of {', '.join(MODELS | SEGMENTERS)}")
    config = default_config(name)
    check_types(ConfigDict(content, type_safe=False), config, prefix=prefix)
    with config.ignore_type():
        for key, value in content.items():
            if not isinstance(value, Mapping | ConfigDict) or key not in config:
                config[key] = value
                continue
            for option, setting in value.items():
                # Tuples, because JSON's lists would make a module unhashable.
                config[key][option] = tuple(setting) if isinstance(setting, list) else setting
    return config.lock()


def _plain(config: Config) -> dict[str, Any]:
    """The config as JSON would return it: plain dicts, lists for tuples."""
    return json.loads(config.to_json_best_effort())


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    entries = {}
    for key, value in tree.items():
        entries.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return entries
