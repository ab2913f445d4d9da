"""The command line: flags, help, and one line with an exit status for a user's mistake.

A command is a module of the package's root with a docstring for `--help`, `define_flags()`, `main()` and `run()`. Its
import defines no flag, so that all commands can be imported in one process.
"""

import contextlib
import importlib
import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging

from air_jax.errors import StoppedError, UserError

# Console command `air-jax NAME`: module of the package's root.
COMMANDS = {"train": "main", "evaluate": "evaluate", "register": "register", "apply": "apply"}
# Packages that only one extra of the installation contains. Others belong to several.
EXTRAS = {"tensorflow": "prepare"} | dict.fromkeys(
    ("array_record", "grain", "ml_collections", "sklearn", "tensorflow_datasets"), "train"
)
USER_MISTAKE = 2
RUN_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on


def console() -> None:
    """The entry point of `air-jax COMMAND [--flag=value ...]`."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("usage: air-jax COMMAND [--flag=value ...]\n\ncommands:")
        for command, module in COMMANDS.items():
            print(f"  {command:<10} {_summary(f'air_jax.{module}')}")
        print("\nair-jax COMMAND --help shows the flags of a command.")
        return
    if name not in COMMANDS:
        _exit(f"unknown command {name!r}; there are {', '.join(COMMANDS)}")
    sys.argv = [f"air-jax {name}", *sys.argv[2:]]
    importlib.import_module(f"air_jax.{COMMANDS[name]}").run()


def run(main: Callable[[], None], *required: str, extra: str = "files") -> None:
    """Parses the flags and runs a command; ends the process.

    Args:
      main: the command, a function of the module whose docstring `--help` prints.
      *required: flags that must be given.
      extra: extra of the installation that the command needs.
    """
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in sys.argv[1:]):
        print(_help(main))
        sys.exit(0)
    app.run(lambda _: _guarded(main, extra), flags_parser=lambda arguments: _parse(arguments, required))


def _parse(arguments: list[str], required: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(arguments)
        if len(rest) > 1:
            raise UserError(f"unexpected argument {rest[1]!r}; flags are written --name=value")
        for name in required:
            if flags.FLAGS[name].value is None:
                raise UserError(f"--{name} must be given")
            # config_flags puts off the error of a config file that cannot be loaded until its value is used.
            hasattr(flags.FLAGS[name].value, "__len__")
        return rest
    except (AttributeError, KeyError) as error:  # how config_flags reports a key that the config does not have
        _exit(f"unknown config key: {str(error).strip(chr(34))}; air_jax.workdir.defaults lists all of them")
    except OSError as error:
        reason = str(error).splitlines()[-1].strip()
        _exit(f"--{required[0]}={_given(arguments, required[0])}: cannot be loaded ({reason})")
    except flags.Error as error:
        _exit(" ".join(str(error).split()) + "; --help lists the flags")
    except UserError as error:
        _exit(error)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def naming_extra(extra: str) -> Iterator[None]:
    """Ends the process with one line where a package is not installed.

    Args:
      extra: extra of the installation that the block needs. The line names another one for packages of that one only.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "air_jax":
            raise
        extra = EXTRAS.get(package, extra)
        _exit(f"needs {error.name}; install air_jax with its extra '{extra}': pip install '.[{extra}]'")


def _guarded(main: Callable[[], None], extra: str) -> None:
    logging.set_verbosity(logging.WARNING)
    try:
        with naming_extra(extra):
            main()
    except UserError as error:
        _exit(error)
    except StoppedError as interruption:
        _exit(interruption, RUN_AGAIN)
    except KeyboardInterrupt:
        _exit("interrupted; the same command goes on where it can", RUN_AGAIN)


def _given(arguments: list[str], name: str) -> str:
    """The value of a flag as the user wrote it, `--name=value` or `--name value`."""
    for argument, following in itertools.pairwise([*arguments, ""]):
        if argument.lstrip("-") == name:
            return following
        if argument.lstrip("-").startswith(f"{name}="):
            return argument.split("=", 1)[1]
    return ""


def _help(main: Callable[[], None]) -> str:
    """The docstring of the command's module, and its flags."""
    lines = [(sys.modules[main.__module__].__doc__ or "").strip(), "", "flags:"]
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith(("absl.", "jax")):
            continue
        for flag in defined:
            default = "" if flag.default is None else f" Default: {flag.default}."
            text = f"{' '.join((flag.help or '').split())}{default}"
            lines += textwrap.wrap(text, 110, initial_indent=f"  --{flag.name}: ", subsequent_indent="      ")
    return "\n".join(lines)


def _summary(module: str) -> str:
    """The first line of a module's docstring, without the command in it."""
    return (importlib.import_module(module).__doc__ or "").strip().splitlines()[0].split(": `")[0]


def _exit(message: object, status: int = USER_MISTAKE) -> None:
    print(f"air_jax: {' '.join(str(message).splitlines())}", file=sys.stderr)
    sys.exit(status)
