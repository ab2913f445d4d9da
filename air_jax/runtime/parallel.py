"""Data parallelism over the devices of all processes; the only file that uses `pmap`."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec

from air_jax.errors import UserError

if TYPE_CHECKING:
    Device = Any  # JAX has no static type for its devices
else:
    Device = jax.Device

AXIS_NAME = "devices"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Fewest pairs for which a CPU core is worth a device of its own.
_MIN_PAIRS_PER_CORE = 8


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
    return jax.device_put(tree, jax.sharding.NamedSharding(_local_mesh(devices), PartitionSpec()))


def shard(tree: Any, devices: Sequence[Device]) -> Any:
    """Spreads the first axis of every array of a tree over the devices of this process.

    Args:
      tree: tree of arrays `[number of this process's devices, ...]`.
      devices: devices of all processes.

    Returns:
      The tree with the same arrays, on the devices.
    """
    return jax.device_put(tree, jax.sharding.NamedSharding(_local_mesh(devices), PartitionSpec(AXIS_NAME)))


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


def sharded_data_parallel(
    train_steps: Callable, mesh: jax.sharding.Mesh, *, streaming: bool = False, state_sharding: Any = None
) -> Callable:
    """Takes the same steps as `data_parallel`, as one program that XLA partitions (`jit` with shardings).

    The devices' indices are mapped by `vmap` and sharded along the mesh's axis `AXIS_NAME`; so is all that depends on
    them. A sharding of the parameters or further axes of the mesh lead from here to FSDP or model parallelism. Each
    step has one all-reduce of gradients, and one all-gather of padded images in `warp`'s derivative.

    Args:
      train_steps: see `air_jax.training.steps.make_train_steps`, built for `mesh.shape[AXIS_NAME]` devices.
      mesh: devices of all processes, see `mesh_of`.
      streaming: as for `data_parallel`.
      state_sharding: sharding of the state, or a tree of shardings like the state. Default: replicated. With several
        processes only the default is possible.

    Returns:
      `run(state, images, num_steps)` as from `data_parallel`. The new state is sharded like the old one.
    """
    replicated, split = (jax.sharding.NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec(AXIS_NAME)))
    place, place_state = split if streaming else replicated, state_sharding or replicated

    def take_steps(state: Any, images: Any, num_steps: int) -> tuple[Any, dict[str, jax.Array]]:
        def steps_of(images: Any, device: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            return train_steps(state, images, device, num_steps)

        indices = jax.lax.with_sharding_constraint(jnp.arange(mesh.shape[AXIS_NAME], dtype=jnp.int32), split)
        images_axis = 0 if streaming else None
        mapped = jax.vmap(steps_of, (images_axis, 0), None, axis_name=AXIS_NAME, spmd_axis_name=AXIS_NAME)
        return mapped(images, indices)

    compiled = jax.jit(
        take_steps,
        static_argnums=2,
        donate_argnums=0,
        in_shardings=(place_state, place),
        out_shardings=(place_state, replicated),
    )

    def run(state: Any, images: Any, num_steps: int) -> tuple[Any, Any]:
        if jax.process_count() == 1:
            return compiled(state, images, num_steps)
        arguments = multihost_utils.host_local_array_to_global_array(
            (state, images), mesh, (PartitionSpec(), place.spec)
        )
        return multihost_utils.global_array_to_host_local_array(compiled(*arguments, num_steps), mesh, PartitionSpec())

    return run


def mesh_of(devices: Sequence[Device]) -> jax.sharding.Mesh:
    """Returns the mesh of these devices, with the single axis `AXIS_NAME`.

    Args:
      devices: any devices, in the order of the batch's shares.
    """
    return jax.sharding.Mesh(np.asarray(devices), (AXIS_NAME,))


def _local_mesh(devices: Sequence[Device]) -> jax.sharding.Mesh:
    return mesh_of([device for device in devices if device.process_index == jax.process_index()])
