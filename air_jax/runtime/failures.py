"""The end by an exception of a process that trains together with others."""

import atexit
import os
import sys
import threading

import jax

from air_jax.errors import StoppedError, UserError, first_line

# How long a failed process waits for the others to report their own failure.
_GRACE_SECONDS = 5.0
# In messages of collectives whose connection to another process has broken, on CPUs and GPUs.
_LOST_CONNECTION = ("Gloo", "NCCL", "oordination service", "onnection closed by peer", "onnection reset by peer")


def leave(error: BaseException) -> None:
    """Leaves the run after a failure: in good order where all processes failed, otherwise with an exit status.

    Where a collective failed because another process is gone, this process ends at once with one line and status 1:
    JAX's own threads soon notice the same, and abort it with a long trace.

    Args:
      error: the exception that ends this process.
    """
    if isinstance(error, (RuntimeError, ValueError)) and any(sign in str(error) for sign in _LOST_CONNECTION):
        reason = " ".join(first_line(error, length=200).split())
        line = f"air_jax: another process of this run has ended ({reason}); start all again, the same command goes on"
        print(line, file=sys.stderr)
        _end(1)
    leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    leaving.start()
    leaving.join(_GRACE_SECONDS)
    if leaving.is_alive():  # JAX's own handler would wait for processes that may be waiting for this one
        atexit.register(_end, {UserError: 2, StoppedError: 75}.get(type(error), 1))


def _end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
