"""The way of the images to the step: resident on the devices, or streamed from the host a few steps at a time."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from air_jax.data import Images
from air_jax.data.stream import stream
from air_jax.runtime.parallel import (
    Device,
    data_parallel,
    local_indices,
    mesh_of,
    replicate,
    shard,
    sharded_data_parallel,
)

# Bytes of images on each device in one streamed transfer; three transfers are on their way at once.
STREAMED_BYTES = 2**26

Run = Callable[[Any, int], tuple[Any, dict[str, Any]]]


def fits(images: Images, devices: Sequence[Device]) -> bool:
    """Returns whether a copy of the images on each device leaves half of the memory free."""
    size = num_bytes(images)
    local = [device for device in devices if device.process_index == jax.process_index()]
    if local[0].platform == "cpu":  # whose devices share the memory
        return len(local) * size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    memory = local[0].memory_stats()
    return memory is None or "bytes_limit" not in memory or size <= memory["bytes_limit"] // 2


def num_bytes(images: Images) -> int:
    """Returns the bytes of the images with their segmentations and pairs."""
    return sum(array.nbytes for array in jax.tree.leaves(images))


def steps_per_dispatch(model: nn.Module, devices: Sequence[Device]) -> int | None:
    """Returns the largest number of steps in one dispatch: 1 for convolutions on a CPU, otherwise None for any number.

    Gradients of convolutions are 50 to 100 times slower inside XLA's loop on a CPU.
    """
    return 1 if devices[0].platform == "cpu" and getattr(model, "has_convolutions", False) else None


def resident(
    train_steps: Callable,
    images: Images,
    devices: Sequence[Device],
    *,
    at_most: int | None = None,
    sharded_jit: bool = False,
) -> Run:
    """Builds `run(state, num_steps)` on images that stay on the devices.

    Args:
      train_steps: see `air_jax.training.steps.make_train_steps`.
      images: all training images, with segmentations and pairs where the steps need them.
      devices: see `air_jax.runtime.parallel.data_parallel`.
      at_most: largest number of steps in one dispatch; None for any.
      sharded_jit: True for `air_jax.runtime.parallel.sharded_data_parallel`, False for `data_parallel`.
    """
    parallel_steps = _on_devices(train_steps, devices, streaming=False, sharded_jit=sharded_jit)
    images = replicate(images, devices)

    def run(state: Any, num_steps: int) -> tuple[Any, dict[str, Any]]:
        return _in_parts(parallel_steps, state, lambda: images, _split(num_steps, at_most or num_steps))

    return run


def streamed(
    train_steps: Callable,
    images: Images,
    devices: Sequence[Device],
    dispatches: Sequence[tuple[int, int]],
    *,
    seed: int,
    batch_size: int,
    at_most: int | None = None,
    sharded_jit: bool = False,
) -> Run:
    """Builds `run(state, num_steps)` on images that stay on the host; the next batches are read while steps run.

    Args:
      train_steps: see `air_jax.training.steps.make_train_steps`, built with `streaming`.
      images: see `air_jax.data.stream.stream`.
      devices: see `air_jax.runtime.parallel.data_parallel`.
      dispatches: first step and number of steps of each later call, see `air_jax.training.loop.dispatches`.
      seed, batch_size: of the run.
      at_most: largest number of steps in one transfer; fewer where their images exceed `STREAMED_BYTES`.
      sharded_jit: see `resident`.
    """
    local = local_indices(devices)
    step_bytes = 2 * (batch_size // len(devices)) * num_bytes(images) // len(images)
    size = max(1, STREAMED_BYTES // step_bytes)
    size = min(size, at_most or size)
    spans = [
        (first + done, count)
        for first, num_steps in dispatches
        for done, count in zip(range(0, num_steps, size), _split(num_steps, size), strict=True)
    ]
    batches = stream(images, spans, seed=seed, batch_size=batch_size, num_devices=len(devices), device_indices=local)
    parallel_steps = _on_devices(train_steps, devices, streaming=True, sharded_jit=sharded_jit)

    def run(state: Any, num_steps: int) -> tuple[Any, dict[str, Any]]:
        return _in_parts(parallel_steps, state, lambda: shard(next(batches), devices), _split(num_steps, size))

    return run


def _on_devices(train_steps: Callable, devices: Sequence[Device], *, streaming: bool, sharded_jit: bool) -> Callable:
    if sharded_jit:
        return sharded_data_parallel(train_steps, mesh_of(devices), streaming=streaming)
    return data_parallel(train_steps, devices, streaming=streaming)


def _split(num_steps: int, size: int) -> list[int]:
    """Splits `num_steps` into parts of `size` and the rest."""
    return [min(size, num_steps - done) for done in range(0, num_steps, size)]


def _in_parts(
    parallel_steps: Callable, state: Any, next_images: Callable[[], Any], sizes: Sequence[int]
) -> tuple[Any, dict[str, Any]]:
    """Takes steps in parts of `sizes`, and joins their metrics."""
    collected = []
    for size in sizes:
        images = next_images()  # transferred while the part before runs
        # More parts at once would fill the device, and several virtual CPU devices could wait for each other.
        collected = jax.tree.map(np.asarray, collected)
        state, step_metrics = parallel_steps(state, images, size)
        collected.append(step_metrics)
    if len(collected) == 1:
        return state, collected[0]
    return state, jax.tree.map(lambda *values: np.concatenate(values), *collected)
