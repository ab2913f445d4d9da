"""Ctrl-C while a command still imports: one line instead of a traceback. Imports nothing before it watches."""

import importlib
import os
import signal
import sys
from types import TracebackType

RUN_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on
MESSAGE = "interrupted; the same command goes on where it can"


def is_command(arguments: list[str]) -> bool:
    """Returns whether this process is a command of the package, and not a program that imports it.

    Args:
      arguments: those of the interpreter, as in `sys.orig_argv`.
    """
    first = next((index for index, word in enumerate(arguments[1:], start=1) if not word.startswith("-")), 0)
    if not first:
        return False
    if arguments[first - 1] == "-m":
        return arguments[first].startswith("air_jax.")
    return os.path.basename(arguments[first]) == "air-jax"


def watch() -> None:
    """Makes an interrupt that nobody handles end this command in one line, with the status that says: run me again."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, traceback)
            return
        print(f"air_jax: {MESSAGE}", file=sys.stderr, flush=True)
        os._exit(RUN_AGAIN)  # nothing has been opened or written yet

    sys.excepthook = hook
    # An interrupt while jaxlib 0.10 starts is a segmentation fault: it waits until that is done.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        importlib.import_module("jaxlib.xla_client")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
