"""Data parallelism over devices and processes; the only file that uses `pmap`."""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from air_jax.errors import UserError
from air_jax.runtime.failures import leave

if TYPE_CHECKING:
    Device = Any  # JAX has no static type for its devices
else:
    Device = jax.Device

AXIS_NAME = "devices"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Fewest pairs for which a CPU core is worth a device of its own.
_MIN_PAIRS_PER_CORE = 8
# How long a finished process waits for the last one, which scores and draws. A process that dies is noticed sooner.
_SHUTDOWN_SECONDS = 24 * 3600


# ---- Devices ---------------------------------------------------------------------------------------------------------


def use_cores(batch_size: int) -> None:
    """Makes each CPU core a device, as many as divide the batch evenly; must be called before JAX is used.

    Two cores that share each operation of a small step gain nothing. Two cores with half of the batch each are up to
    twice as fast. A number of devices that the user has set stays (`JAX_NUM_CPU_DEVICES`, or
    `--xla_force_host_platform_device_count` in `XLA_FLAGS`).

    Args:
      batch_size: number of pairs in a step. Each device gets at least 8 of them.
    """
    in_flags = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    config: Any = jax.config  # older JAX has no types for its options
    if in_flags or config.jax_num_cpu_devices > 0:
        return
    counts = range(1, min(num_cores(), batch_size // _MIN_PAIRS_PER_CORE) + 1)
    jax.config.update("jax_num_cpu_devices", max((n for n in counts if batch_size % n == 0), default=1))


def num_cores() -> int:
    """Returns the number of CPU cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # without a quota, or not on Linux
        quota, period = map(int, CPU_QUOTA.read_text().split())
        cores = min(cores, max(1, quota // period))
    return cores


def all_devices() -> list[Device]:
    """Returns the devices of all processes: those of the first process in JAX's order, then those of the second, ...

    Raises `UserError` where JAX cannot use the platform that `JAX_PLATFORMS` asks for.
    """
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # the second where no plug-in of the platform is installed
        asked, reason = getattr(jax.config, "jax_platforms", ""), " ".join(str(error).split())[:200]
        raise UserError(f"JAX_PLATFORMS={asked}: cannot be used here ({reason}); unset it, or set it to cpu") from error
    return sorted(devices, key=lambda device: device.process_index)


def replicate(tree: Any, devices: Sequence[Device]) -> Any:
    """Copies every array of a tree to each device of this process, so that no call has to transfer it again.

    Args:
      tree: tree of arrays of any shape.
      devices: devices of all processes.

    Returns:
      The tree with arrays of the same shape and type, on the devices.
    """
    return jax.device_put(tree, jax.sharding.NamedSharding(_local_mesh(devices), jax.sharding.PartitionSpec()))


def shard(tree: Any, devices: Sequence[Device]) -> Any:
    """Spreads the first axis of every array of a tree over the devices of this process.

    Args:
      tree: tree of arrays `[number of this process's devices, ...]`.
      devices: devices of all processes.

    Returns:
      The tree with the same arrays, on the devices.
    """
    return jax.device_put(tree, jax.sharding.NamedSharding(_local_mesh(devices), jax.sharding.PartitionSpec(AXIS_NAME)))


def local_indices(devices: Sequence[Device]) -> list[int]:
    """Returns the indices in `devices` of the devices of this process.

    Args:
      devices: devices of all processes.
    """
    return [devices.index(device) for device in _local_mesh(devices).devices]


def data_parallel(train_steps: Callable, devices: Sequence[Device], *, streaming: bool = False) -> Callable:
    """Maps `train_steps(state, images, device, num_steps)` over devices, of this process or of all (`pmap`).

    The state and resident images are the same on every device; the caller neither stacks nor copies them. The mapped
    argument is the device's index in `devices`, by which a step takes its slice of the global batch. Streamed batches
    are also mapped. The results count as equal on all devices, so `train_steps` must average everything that it returns
    (`pmean` over `AXIS_NAME`).

    Args:
      train_steps: see `air_jax.training.steps.make_train_steps`.
      devices: the same list in every process, as from `all_devices`. Every process calls `run` at the same time.
      streaming: as for `make_train_steps`; `run` then takes images from `shard`. Default: no.

    Returns:
      `run(state, images, num_steps)`. `state` is donated. `num_steps` is static: each value is compiled once.
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


def _local_mesh(devices: Sequence[Device]) -> jax.sharding.Mesh:
    local = [device for device in devices if device.process_index == jax.process_index()]
    return jax.sharding.Mesh(np.asarray(local), (AXIS_NAME,))


# ---- Processes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def processes(
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
