"""Processes that train together: how they join, what they share, how they end."""

import contextlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from air_jax.errors import UserError
from air_jax.runtime.failures import leave

# How long a finished process waits for the last one, which scores and draws. A process that dies is noticed sooner.
_SHUTDOWN_SECONDS = 24 * 3600


@contextlib.contextmanager
def joined(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None, *, detect: bool
) -> Iterator[None]:
    """Joins this process to the other processes of its run, if any; must be entered before JAX is used.

    Leaving the block waits for the other processes. Leaving it by an exception ends this process within seconds: the
    others wait for it in a collective, and its end makes them end, with one line on stderr and status 1.

    Args:
      coordinator_address: `HOST:PORT` at which the first process listens.
      num_processes: number of processes.
      process_id: index of this process, from 0. All three None: this process is the only one.
      detect: whether JAX takes all three from the cluster's environment (SLURM, Open MPI, Cloud TPU and others).

    Raises:
      UserError: the arguments do not fit each other, or the processes do not find each other.
    """
    if not _join(coordinator_address, num_processes, process_id, detect):
        yield
        return
    try:
        yield
    except BaseException as error:
        leave(error)
        raise
    jax.distributed.shutdown()


def _join(coordinator_address: str | None, num_processes: int | None, process_id: int | None, detect: bool) -> bool:
    """Joins the other processes; returns whether there are any."""
    given: dict[str, Any] = {
        "coordinator_address": coordinator_address,
        "num_processes": num_processes,
        "process_id": process_id,
    }
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if detect:
        if len(missing) < len(given):
            superfluous = " and ".join(f"--{name}" for name, value in given.items() if value is not None)
            raise UserError(f"--distributed asks the cluster; leave it out, or leave out {superfluous}")
        given = {}
    elif len(missing) == len(given):
        return False
    elif missing:
        raise UserError(f"several processes also need {' and '.join(missing)}")
    else:
        _check(**given)
    try:
        jax.distributed.initialize(**given, shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        advice = (
            "is this a cluster that JAX knows? If not, give --coordinator_address, --num_processes and --process_id"
            if detect
            else f"is {coordinator_address} the first process, reachable from all, and its port free?"
        )
        raise UserError(f"the processes did not find each other ({reason}); {advice}") from error
    return True


def _check(coordinator_address: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator_address.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise UserError(f"--coordinator_address={coordinator_address}: must be HOST:PORT, as in 10.0.0.1:1234")
    if num_processes < 1:
        raise UserError(f"--num_processes={num_processes}: must be positive")
    if not 0 <= process_id < num_processes:
        raise UserError(f"--process_id={process_id}: must lie between 0 and {num_processes - 1}, one for each process")


def is_first_process() -> bool:
    """Returns whether this is the process that writes files and prints progress."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line, only in the first process.

    Args:
      text: the line.
    """
    if is_first_process():
        print(text, flush=True)


def from_first_process(function: Callable[[], Any], *, like: Any = None) -> Any:
    """Calls `function` only in the first process, and returns its result in every process.

    Args:
      function: returns a tree of arrays.
      like: tree of arrays of the same shapes and types; its values are not used. Default: `function` returns nothing.

    Returns:
      The result of `function`.

    Raises:
      Exception: in the first process, the exception that `function` raised.
      UserError: in the other processes, `function` raised an exception.
    """
    if jax.process_count() == 1:
        return function()
    result, failure = like, None
    if is_first_process():
        try:
            result = function()
        except Exception as error:  # raised below, after the other processes have been told
            failure = error
    failed, result = multihost_utils.broadcast_one_to_all((np.int32(failure is not None), result))
    if failure is not None:
        raise failure
    if failed:
        raise UserError("the first process stopped; its message says why")
    return result


def check_agreement(text: str, name: str) -> None:
    """Checks that `text` is the same in all processes.

    Args:
      text: text to be compared, such as a config as JSON.
      name: name of the text, for the message.

    Raises:
      UserError: it differs; in every process.
    """
    if jax.process_count() == 1:
        return
    digests = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    others = np.flatnonzero(digests != digests[0])
    if others.size:
        raise UserError(f"{name} of process {others[0]} is not that of process 0; start all with the same command")
