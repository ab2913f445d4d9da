"""Data parallelism: the only file that says how a step is spread over devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

AXIS_NAME = "devices"


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Puts a copy of every array on each device, so that no call has to send it again."""
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS_NAME,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def data_parallel(train_steps: Callable, devices: Sequence[jax.Device]) -> Callable:
    """`pmap`s `train_steps(state, images, device, num_steps)` over devices.

    State and data are the same on every device, so they are neither stacked nor copied by the caller; the one mapped
    argument is the device's index, from which a step takes its slice of the global batch. What comes back is the first
    device's copy: `train_steps` must average (`pmean` over `AXIS_NAME`) everything that it returns.

    Returns:
      `run(state, images, num_steps)`; `state` is donated. `num_steps` is static: each value is compiled once.
    """
    mapped = jax.pmap(
        train_steps,
        axis_name=AXIS_NAME,
        in_axes=(None, None, 0),
        out_axes=None,
        static_broadcasted_argnums=3,
        donate_argnums=0,
        devices=list(devices),
    )
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS_NAME,))
    indices = jax.device_put(
        np.arange(len(devices), dtype=np.int32), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS_NAME))
    )

    def run(state: Any, images: jax.Array, num_steps: int) -> tuple[Any, Any]:
        return mapped(state, images, indices, num_steps)

    return run
