"""The flag of a config file: a fault of the user's file is one line that names the file and its line."""

import stat
import traceback
from pathlib import Path
from typing import Any

from absl import flags

from air_jax.errors import UserError


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
        """Returns the config of `FILE` or `FILE:ARGUMENT`.

        Raises:
          UserError: the file cannot be read, does not compile or import, fails, or returns no config.
        """
        flag, path = f"--{self.name}={argument}", Path(argument.split(":", 1)[0])
        _check_file(flag, path)
        try:
            config = self._parser.parse(argument)
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
        return config

    def flag_type(self) -> str:
        """Returns the kind of the flag's value, for its help."""
        return self._parser.flag_type()


def _check_file(flag: str, path: Path) -> None:
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise UserError(f"{flag}: cannot be loaded ({error.strerror})") from error
    if not stat.S_ISREG(kind):  # reading a pipe may never end
        what = "folder" if stat.S_ISDIR(kind) else "pipe or a device"
        raise UserError(f"{flag}: {path} is a {what}; give a Python file with a get_config()")


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
