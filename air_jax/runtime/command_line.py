"""The command line: flags, help, and one line with an exit status for a user's mistake.

A command is a module of the package's root with a docstring for `--help`, `define_flags()`, `main()` and `run()`. Its
import defines no flag, so that all commands can be imported in one process.
"""

import contextlib
import importlib
import itertools
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import app, flags, logging

from air_jax.errors import StoppedError, UserError, nearest
from air_jax.runtime.interrupts import MESSAGE, RUN_AGAIN
from air_jax.runtime.streams import ignore_closed_loops, keep_streams

# Console command `air-jax NAME`: module of the package's root.
COMMANDS = {"train": "main"}
COMMANDS |= {
    name: name
    for name in ("evaluate", "register", "apply", "motion", "batch", "template", "samples", "export", "doctor")
}
# Packages that only one extra of the installation contains. Others belong to several.
EXTRAS = {"tensorflow": "prepare", "tensorboardX": "watch", "huggingface_hub": "hub", "flatbuffers": "export"}
EXTRAS |= dict.fromkeys(("array_record", "grain", "ml_collections", "sklearn", "tensorflow_datasets"), "train")
USER_MISTAKE = 2


def console() -> None:
    """The entry point of `air-jax COMMAND [--flag=value ...]`."""
    keep_streams()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("usage: air-jax COMMAND [--flag=value ...]\n\ncommands:")
        for command, module in COMMANDS.items():
            summary, example = _summary(f"air_jax.{module}")
            print(f"  {command:<10} {summary}\n             air-jax {command} {example}".rstrip())
        print("\nair-jax COMMAND --help shows the flags of a command, air-jax train --list the configs.")
        return
    if name not in COMMANDS:
        found = nearest(name, COMMANDS)
        advice = f"did you mean {found}? " if found else ""
        _exit(f"unknown command {name!r}; {advice}there are {', '.join(COMMANDS)}")
    sys.argv = [f"air-jax {name}", *sys.argv[2:]]
    importlib.import_module(f"air_jax.{COMMANDS[name]}").run()


def run(main: Callable[[], None], *required: str, extra: str = "files") -> None:
    """Parses the flags and runs a command; ends the process.

    Args:
      main: the command, a function of the module whose docstring `--help` prints.
      *required: flags that must be given.
      extra: extra of the installation that the command needs.
    """
    keep_streams()
    if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in sys.argv[1:]):
        print(_help(main))
        sys.exit(0)
    ignore_closed_loops()
    logging.set_verbosity(logging.ERROR)  # warnings of config_flags, beside which our own line would be the second
    try:
        app.run(lambda _: _guarded(main, extra), flags_parser=lambda arguments: _parse(arguments, required))
    except SystemExit as end:
        if end.code:
            _end_without_threads(end.code)
        raise


def path_of(flag: str, text: str) -> Path:
    """Returns the path that a flag gives. A shell does not expand the `~` of `--flag=~/file`, so it is done here.

    Args:
      flag: name of the flag, for the message.
      text: its value.

    Raises:
      UserError: the path is empty, or there is no such user.
    """
    if not text:
        raise UserError(f"--{flag}=: is empty; give a path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag}={text}: there is no home folder of this name; give the whole path") from error


def _end_without_threads(code: str | int) -> None:
    """Ends the process where threads remain, which the interpreter would wait for.

    After a checkpoint that cannot be written, a thread of Orbax waits for a signal that never comes.
    """
    if all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _parse(arguments: list[str], required: Sequence[str]) -> list[str]:
    try:
        _check_flag_files(arguments)
        rest = flags.FLAGS(arguments)
        if len(rest) > 1:
            raise UserError(f"unexpected argument {rest[1]!r}; flags are written --name=value")
        for name in required:
            if flags.FLAGS[name].value is None:
                raise UserError(f"--{name} must be given")
        return rest
    except (AttributeError, KeyError) as error:  # how config_flags reports a key that the config does not have
        _exit(f"unknown config key: {str(error).strip(chr(34))}; air_jax.workdir.defaults lists all of them")
    except KeyboardInterrupt:
        _exit(MESSAGE, RUN_AGAIN)
    except flags.Error as error:
        _exit(" ".join(str(error).split()) + "; --help lists the flags")
    except UserError as error:
        _exit(error)
    raise AssertionError("unreachable")


def _check_flag_files(arguments: Sequence[str]) -> None:
    """Checks absl's own `--flagfile=PATH` and `--flagfile PATH`: reading a pipe may never end."""
    for argument, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        path = value if equals else following
        if name.lstrip("-") == "flagfile" and os.path.exists(path) and not os.path.isfile(path):
            raise UserError(f"--flagfile={path}: is a folder, a pipe or a device; give a file of flags")


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
        from air_jax.runtime.installation import install_command

        _exit(f"needs {error.name}; install air_jax with its extra '{extra}': {install_command(extra)}")


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
        _exit(MESSAGE, RUN_AGAIN)
    except MemoryError:
        _exit("the memory is full; give smaller images, or close other programs")
    except OSError as error:  # a full disk, a path too long, a folder that may not be written
        if error.errno is None:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        _exit(f"{place}{error.strerror or error}; the same command goes on when that is mended")
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in text:
            raise
        _exit(f"the device's memory is full ({text[:200]}); give smaller images, or a smaller batch")


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


def _summary(module: str) -> tuple[str, str]:
    """The first line of a module's docstring without the command in it, and the flags of its first example."""
    text = (importlib.import_module(module).__doc__ or "").strip()
    command = f"python -m {module}", *(f"air-jax {name}" for name in COMMANDS if f"air_jax.{COMMANDS[name]}" == module)
    example = re.search(rf"(?:{'|'.join(map(re.escape, command))})\b ?([^`\n\\]*)", text)
    return text.splitlines()[0].split(": `")[0].rstrip("."), example[1] if example else ""


def _exit(message: object, status: int = USER_MISTAKE) -> None:
    print(f"air_jax: {' '.join(str(message).splitlines())}", file=sys.stderr)
    sys.exit(status)
