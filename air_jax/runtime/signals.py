"""Signals that ask a long run to save and end: Ctrl-C, a scheduler's SIGTERM, a closed terminal's SIGHUP."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether a signal has asked the run to stop.

    Attributes:
      name: the signal's name; empty as long as there was none.
    """

    def __init__(self):
        self.name = ""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. A second signal ends the process at once."""
        del frame
        if self.name:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
        print(f"\n{self.name}: saving after the steps under way; once more ends at once", flush=True)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turns the signals into requests as long as the block runs; elsewhere than in the main thread none are caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
