"""Data parallelism: the only file that says how a step is spread over devices, and over processes."""

import atexit
import contextlib
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from air_jax.errors import UserError

AXIS_NAME = "devices"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Pairs that a core of a CPU must have to itself before it is worth its own device.
_MIN_PAIRS_A_CORE = 8
# How long a process that is done waits for the last one, which scores and draws; a process that dies is noticed sooner.
_SHUTDOWN_SECONDS = 24 * 3600
# How long a process that failed waits for the others to say that they failed too.
_GRACE_SECONDS = 5.0


# ---- Devices ---------------------------------------------------------------------------------------------------------


def use_cores(batch_size: int) -> None:
    """Makes each core of a CPU a device, as many as share the batch evenly; must be called before JAX is used.

    Small steps gain nothing from two cores that work on each operation together, and up to twice the speed from two
    that work on half of the batch each. Where the user has said how many devices there are (`JAX_NUM_CPU_DEVICES`, or
    `--xla_force_host_platform_device_count` in `XLA_FLAGS`), that stands.
    """
    in_flags = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if in_flags or jax.config.jax_num_cpu_devices > 0:
        return
    counts = range(1, min(num_cores(), batch_size // _MIN_PAIRS_A_CORE) + 1)
    jax.config.update("jax_num_cpu_devices", max((n for n in counts if batch_size % n == 0), default=1))


def num_cores() -> int:
    """The CPU cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no quota, or no Linux
        quota, period = map(int, CPU_QUOTA.read_text().split())
        cores = min(cores, max(1, quota // period))
    return cores


def all_devices() -> list[jax.Device]:
    """The devices of all processes: those of the first process in JAX's order, then those of the second, and so on."""
    return sorted(jax.devices(), key=lambda device: device.process_index)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Puts a copy of every array on each device of this process, so that no call has to send it again."""
    return jax.device_put(tree, jax.sharding.NamedSharding(_local_mesh(devices), jax.sharding.PartitionSpec()))


def shard(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Spreads every array over the devices of this process: its first axis has one entry for each."""
    return jax.device_put(tree, jax.sharding.NamedSharding(_local_mesh(devices), jax.sharding.PartitionSpec(AXIS_NAME)))


def local_indices(devices: Sequence[jax.Device]) -> list[int]:
    """Where the devices of this process stand in `devices`."""
    return [devices.index(device) for device in _local_mesh(devices).devices]


def data_parallel(train_steps: Callable, devices: Sequence[jax.Device], *, streaming: bool = False) -> Callable:
    """`pmap`s `train_steps(state, images, device, num_steps)` over devices, of this process or of all.

    State and resident images are the same on every device, so they are neither stacked nor copied by the caller; what
    is mapped is the device's index in `devices`, from which a step takes its slice of the global batch, and the batches
    when they are streamed. What comes back counts as the same on every device of this process: `train_steps` must
    average (`pmean` over `AXIS_NAME`) everything that it returns.

    Args:
      train_steps: see `air_jax.training.steps.make_train_steps`.
      devices: the same list in every process, as `all_devices` gives it; each process calls `run` at the same time.
      streaming: as for `make_train_steps`; the images given to `run` are then those of `shard`.

    Returns:
      `run(state, images, num_steps)`; `state` is donated. `num_steps` is static: each value is compiled once.
    """
    mapped = jax.pmap(
        train_steps,
        axis_name=AXIS_NAME,
        in_axes=(None, 0 if streaming else None, 0),
        out_axes=None,
        static_broadcasted_argnums=3,
        donate_argnums=0,
        devices=list(devices),
    )
    indices = shard(np.array(local_indices(devices), np.int32), devices)

    def run(state: Any, images: Any, num_steps: int) -> tuple[Any, Any]:
        return mapped(state, images, indices, num_steps)

    return run


def _local_mesh(devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
    local = [device for device in devices if device.process_index == jax.process_index()]
    return jax.sharding.Mesh(np.asarray(local), (AXIS_NAME,))


# ---- Processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def processes(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None, *, detect: bool
) -> Iterator[None]:
    """Joins this process to the others of its run, where there are others; must be entered before JAX is used.

    Leaving it waits for the others. Leaving it by an exception ends this process soon after, whatever the others do:
    they wait for it in a collective, and learn from its end that they must end too.

    Args:
      coordinator_address: `HOST:PORT` at which the first process listens; without it, this process is the only one.
      num_processes: how many there are.
      process_id: which of them this is, from 0.
      detect: whether a cluster's environment (SLURM, Open MPI, Cloud TPU and others that JAX knows) tells all this.

    Raises:
      UserError: arguments that do not fit, or the processes do not find each other.
    """
    if not _join(coordinator_address, num_processes, process_id, detect):
        yield
        return
    try:
        yield
    except BaseException:
        _give_up()
        raise
    jax.distributed.shutdown()


def _join(coordinator_address: str | None, num_processes: int | None, process_id: int | None, detect: bool) -> bool:
    """Whether there is anything to join; see `processes`."""
    given = {"coordinator_address": coordinator_address, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if detect:
        if len(missing) < len(given):
            superfluous = " and ".join(f"--{name}" for name, value in given.items() if value is not None)
            raise UserError(f"--distributed asks the cluster; leave it out, or leave out {superfluous}")
        given = {}
    elif len(missing) == len(given):
        return False
    elif missing:
        raise UserError(f"several processes need {' and '.join(missing)} too")
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


def _give_up() -> None:
    """Leaves the run after a failure: in good order where all processes failed alike, alone otherwise."""
    leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    leaving.start()
    leaving.join(_GRACE_SECONDS)

    def end() -> None:
        # JAX's own handler would wait for the others, who may be waiting for this process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    if leaving.is_alive():
        atexit.register(end)


def is_first_process() -> bool:
    """Whether this is the process that writes files and tells how the run goes."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line, in the first process alone."""
    if is_first_process():
        print(text, flush=True)


def from_first_process(function: Callable[[], Any], like: Any = None) -> Any:
    """Calls `function` in the first process alone; every process gets what it returned.

    Args:
      function: returns a tree of arrays.
      like: a tree of arrays of the same shapes and types; its values do not matter. None where it returns nothing.

    Raises:
      Exception: what `function` raised, in the first process.
      UserError: `function` raised, in the other processes.
    """
    if jax.process_count() == 1:
        return function()
    result, failure = like, None
    if is_first_process():
        try:
            result = function()
        except Exception as error:  # raised again below, once the others know
            failure = error
    failed, result = multihost_utils.broadcast_one_to_all((np.int32(failure is not None), result))
    if failure is not None:
        raise failure
    if failed:
        raise UserError("the first process stopped; its message says why")
    return result


def check_agreement(text: str, name: str) -> None:
    """Raises `UserError` in every process when `text` is not the same in all of them; `name` says what it is."""
    if jax.process_count() == 1:
        return
    digests = multihost_utils.process_allgather(np.uint32(zlib.crc32(text.encode())))
    others = np.flatnonzero(digests != digests[0])
    if others.size:
        raise UserError(f"{name} of process {others[0]} is not that of process 0; start all with the same command")
