"""Standard streams that cannot fail: a reader that has gone (`... | head -1`) or a full disk ends no run."""

import os
import sys
from typing import Any, TextIO


def keep_streams() -> None:
    """Makes stdout and stderr ignore errors, and opens those that the caller has closed.

    A closed descriptor would be given to the next file that is opened, and then receive what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Kept):
            setattr(sys, name, _Kept(stream))


def ignore_closed_loops() -> None:
    """Prints nothing where TensorStore reports to an event loop that has ended.

    When one part of a checkpoint cannot be written, the others end later, each with a traceback beside our line.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not (unraisable.exc_type is RuntimeError and str(unraisable.exc_value) == "Event loop is closed"):
            before(unraisable)

    sys.unraisablehook = hook


class _Kept:
    """A stream that prints nothing further after its first error."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes text, if it can."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # a terminal of another encoding
            return self.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Flushes, if it can."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        """Lets the descriptor lead nowhere, so that the interpreter's own flush at its end succeeds."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
