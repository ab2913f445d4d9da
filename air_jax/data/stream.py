"""Batches read ahead on the host, for training images that do not fit on the device."""

from collections.abc import Iterator, Sequence
from functools import partial

import jax
import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.pairs import Array, Pair, gather, pairs_of_step

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
    """Yields the images of the pairs that `air_jax.training.steps` draws from images on the device.

    Threads collect them ahead of the steps (grain). The batch of a step is a function of (seed, step): the iterator
    can start at any step, and with any number of devices.

    Args:
      images: all images; the arrays may be memory maps, or anything that an array of indices can index.
      spans: `(first step, number of steps)` of each item to be yielded.
      seed: seed of the training draws.
      batch_size: number of pairs in a step over all devices; a multiple of `num_devices`.
      num_devices: number of devices of all processes.
      device_indices: indices of the devices of this process.

    Yields:
      One pair a span, with arrays `[len(device_indices), num_steps, batch_size / num_devices, *S, C]` (segmentations
      without C), with values and types as in `images`.
    """
    import grain  # takes seconds, and only streaming needs it

    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS excludes the CPU
        host = None

    def read(span: tuple[int, int]) -> Pair:
        start, num_steps = span
        # Threads do not share JAX's default device. Drawing on the host does not wait for the accelerator.
        with jax.default_device(host):
            steps = np.arange(start, start + num_steps, dtype=np.int32)
            indices = _pairs_of_steps(seed, steps, len(images), batch_size, images.pairs)
        fixed, moving = (_shares(np.asarray(index), num_devices, device_indices) for index in indices)
        return gather(images, fixed, moving)

    options = grain.ReadOptions(num_threads=NUM_THREADS, prefetch_buffer_size=NUM_READ_AHEAD)
    return iter(grain.MapDataset.source(list(spans)).map(read).to_iter_dataset(options))


@partial(jax.jit, static_argnums=(0, 2, 3))
def _pairs_of_steps(
    seed: int, steps: Array, num_images: int, batch_size: int, listed: Array | None
) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(lambda step: pairs_of_step(seed, step, num_images, batch_size, listed=listed))(steps)


def _shares(index: np.ndarray, num_devices: int, device_indices: Sequence[int]) -> np.ndarray:
    """Cuts `[num_steps, batch_size]` into `[len(device_indices), num_steps, batch_size / num_devices]`."""
    shares = index.reshape(len(index), num_devices, -1)
    return np.moveaxis(shares, 1, 0)[list(device_indices)]
