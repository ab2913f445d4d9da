"""What the command-line programs share: a user's mistake ends in one line and exit status 1, not in a stack trace."""

import itertools
import sys
from collections.abc import Callable

from absl import app, flags, logging

from air_jax.errors import UserError


def run(main: Callable[[], None], *required: str) -> None:
    """Parses the flags, of which `required` must be given, and runs `main`."""

    def parse(arguments: list[str]) -> list[str]:
        try:
            rest = app.parse_flags_with_usage(arguments)
            if len(rest) > 1:
                raise UserError(f"unexpected argument {rest[1]!r}; flags are written --name=value")
            for name in required:
                if flags.FLAGS[name].value is None:
                    raise UserError(f"--{name} must be given")
                # config_flags puts off the error of a config file that cannot be loaded until its value is used.
                hasattr(flags.FLAGS[name].value, "__len__")
        except (AttributeError, KeyError) as error:  # how config_flags reports a key that the config does not have
            _exit(f"unknown config key: {str(error).strip(chr(34))}; the config file lists all of them")
        except OSError as error:
            reason = str(error).splitlines()[-1].strip()
            _exit(f"--{required[0]}={_given(arguments, required[0])}: cannot be loaded ({reason})")
        except UserError as error:
            _exit(error)
        return rest

    def guarded(_: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)
        try:
            main()
        except UserError as error:
            _exit(error)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("air_jax"):
                raise
            _exit(f"{error.name} is not installed; pip install -r requirements.txt")
        except KeyboardInterrupt:
            _exit("interrupted; the same command goes on where it can")

    app.run(guarded, flags_parser=parse)


def _given(arguments: list[str], name: str) -> str:
    """The value of a flag as the user wrote it, `--name=value` or `--name value`."""
    for argument, following in itertools.pairwise([*arguments, ""]):
        if argument.lstrip("-") == name:
            return following
        if argument.lstrip("-").startswith(f"{name}="):
            return argument.split("=", 1)[1]
    return ""


def _exit(message: object) -> None:
    print(f"air_jax: {message}", file=sys.stderr)
    sys.exit(1)
