"""Batches from the host, read ahead, for training images that do not fit on the device."""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.pairs import Pair, gather, pairs_of_step

NUM_THREADS = 4
NUM_READ_AHEAD = 2


def stream(
    images: Images,
    spans: Sequence[tuple[int, int]],
    *,
    seed: int,
    batch_size: int,
    num_devices: int,
    device_indices: Sequence[int],
) -> Iterator[Pair]:
    """Yields the images of the very pairs that `air_jax.training.steps` would draw from resident data.

    Threads gather them ahead of the step (grain). The batch of a step is a function of (seed, step), so the step in a
    checkpoint is all the state that this iterator has: it resumes anywhere, and with any number of devices.

    Args:
      images: whose arrays may be memory maps, or whatever can be indexed by an array of indices.
      spans: for each item, its first step and how many steps it is for.
      seed, batch_size, num_devices: as for `air_jax.training.steps.make_train_steps`.
      device_indices: which of the devices to gather for: those of this process.

    Returns:
      For each span, pairs of arrays `[len(device_indices), num_steps, batch_size / num_devices, *S, C]` (segmentations
      without C).
    """
    import grain  # takes seconds to import, and only streaming needs it

    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        host = None

    def read(span: tuple[int, int]) -> Pair:
        start, num_steps = span
        # Threads do not share JAX's default device; on the host, nothing waits for the accelerator.
        with jax.default_device(host):
            steps = np.arange(start, start + num_steps, dtype=np.int32)
            pairs = _pairs_of_steps(seed, steps, len(images), batch_size, images.pairs)
        return gather(images, *(_slices(np.asarray(index), num_devices, device_indices) for index in pairs))

    ahead = grain.ReadOptions(num_threads=NUM_THREADS, prefetch_buffer_size=NUM_READ_AHEAD)
    return iter(grain.MapDataset.source(list(spans)).map(read).to_iter_dataset(ahead))


@partial(jax.jit, static_argnums=(0, 2, 3))
def _pairs_of_steps(
    seed: int, steps: jax.Array, num_images: int, batch_size: int, listed: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(lambda step: pairs_of_step(seed, step, num_images, batch_size, listed))(steps)


def _slices(index: np.ndarray, num_devices: int, device_indices: Sequence[int]) -> np.ndarray:
    """`[num_steps, batch_size]` to the devices' shares `[len(device_indices), num_steps, batch_size / num_devices]`."""
    shares = index.reshape(len(index), num_devices, -1)
    return np.moveaxis(shares, 1, 0)[list(device_indices)]
