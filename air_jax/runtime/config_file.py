"""The flag of a config file: a fault of the user's file is one line that names the file and its line.

The value is a path, or the name of a config that ships with the package.
"""

import re
import stat
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from air_jax.errors import UserError, nearest
from air_jax.runtime.shipped_configs import is_name, path_of_name, shipped_configs


class ConfigFileParser(flags.ArgumentParser):
    """Loads a config file as `ml_collections.config_flags` does; every failure is a `UserError`."""

    def __init__(self, name: str, parser: Any):
        """Wraps a parser.

        Args:
          name: name of the flag.
          parser: parser of `config_flags`.
        """
        self.name = name
        self._parser = parser

    def parse(self, argument: str) -> Any:
        """Returns the config of `FILE` or `FILE:ARGUMENT`; for a FILE without folder and `.py`, of a shipped one.

        Raises:
          UserError: the file cannot be read, does not compile or import, fails, or returns no config; the command line
            sets a key that the config does not have.
        """
        flag = f"--{self.name}={argument}"
        name, *rest = argument.split(":", 1)
        path = path_of_name(name) if is_name(name) else Path(name)
        _check_file(flag, path)
        try:
            config = self._parser.parse(":".join([str(path), *rest]))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's file may raise anything, `SystemExit` also
            raise UserError(f"{flag}: cannot be loaded ({_reason(_own(error), path)})") from error
        if isinstance(failure := vars(config).get("_error") if hasattr(config, "__dict__") else None, Exception):
            raise UserError(f"{flag}: cannot be loaded ({_reason(failure, path)})") from failure
        if not hasattr(config, "to_json_best_effort"):
            kind = "nothing" if config is None else f"a {type(config).__name__}"
            raise UserError(
                f"{flag}: get_config() returns {kind}; return a config, such as that of "
                "air_jax.workdir.defaults.default_config"
            )
        _check_keys(self.name, config, sys.argv)
        return config

    def flag_type(self) -> str:
        """Returns the kind of the flag's value, for its help."""
        return self._parser.flag_type()


def _check_file(flag: str, path: Path) -> None:
    try:
        kind = path.stat().st_mode
    except OSError as error:
        found = nearest(path.stem, shipped_configs()) if isinstance(error, FileNotFoundError) else None
        advice = f"; did you mean --config={found}?" if found else ""
        raise UserError(f"{flag}: cannot be loaded ({error.strerror}){advice}") from error
    if not stat.S_ISREG(kind):  # reading a pipe may never end
        what = "folder" if stat.S_ISDIR(kind) else "pipe or a device"
        raise UserError(f"{flag}: {path} is a {what}; give a Python file with a get_config()")


def _check_keys(flag: str, config: Any, arguments: list[str]) -> None:
    """Refuses an argument that sets a key which the config does not have, and names the nearest key."""
    keys = list(_keys(config))
    for argument in arguments:
        named = re.match(rf"--?(?:no)?{flag}\.([\w.]+)", argument)
        if named is None or named[1] in keys:
            continue
        ends = [key for key in keys if key.split(".")[-1] == named[1].split(".")[-1]]
        found = nearest(named[1], ends) or nearest(named[1], keys) or next(iter(ends), None)
        advice = f"did you mean --{flag}.{found}?" if found else "air_jax.workdir.defaults lists all keys"
        raise UserError(f"--{flag}.{named[1]}: the config has no such key; {advice}")


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    """The keys of a config and of its sections, as `section.key`."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if hasattr(value, "items"):
            yield from _keys(value, f"{prefix}{key}.")


def _own(error: BaseException) -> BaseException:
    """The exception of the user's file; `config_flags` raises some again, with a whole traceback as their text."""
    original = error.__context__ if str(error).startswith("Error whilst parsing config file") else None
    return original or error


def _reason(error: BaseException, path: Path) -> str:
    """Kind and text of an exception in one line, and the line of the user's file where it arose."""
    text = str(error).strip()
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == path.name
    ]
    place = f"line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {text.splitlines()[0]}" if text else f"{place}{type(error).__name__}"
