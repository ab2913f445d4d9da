"""Types of a config's values, compared with those of the defaults: a config file or `config.json` may hold anything."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from air_jax.checks import is_integer, is_number
from air_jax.errors import UserError

_WORDS = {bool: "True or False", int: "an integer", float: "a finite number", str: "a text", tuple: "a list"}


def check_types(config: Mapping[str, Any] | ConfigDict, defaults: Any, *, prefix: str) -> None:
    """Checks the type of every value but those of a model's options, which the model checks itself.

    Args:
      config: sections and values.
      defaults: every key with its default.
      prefix: text before the key in messages, such as "--config.".

    Raises:
      UserError: one line that names the first key whose value has another type.
    """
    for key in defaults:
        value = config[key] if key in config else defaults[key]
        if isinstance(defaults[key], ConfigDict):
            if not isinstance(value, Mapping | ConfigDict):
                raise UserError(f"{prefix}{key}={value!r}: must be a section of keys")
            if key != "model":
                check_types(value, defaults[key], prefix=f"{prefix}{key}.")
        elif not (value is None and defaults[key] is None) and not _fits(value, defaults.get_type(key)):
            kind = _WORDS.get(defaults.get_type(key), defaults.get_type(key).__name__)
            raise UserError(f"{prefix}{key}={value!r}: must be {kind}")


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return is_number(value)
    if kind is int:
        return is_integer(value)
    return isinstance(value, (tuple, list) if kind is tuple else kind)  # JSON has lists only
