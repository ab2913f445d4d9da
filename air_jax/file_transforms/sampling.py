"""Values of images and fields at single points, and the choice of one label among neighbours, with ITK's edges.

As in ITK, an image ends half a voxel beyond the centres of its outer voxels. Within that half voxel it continues the
outer voxels' values; beyond it there is none.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.transforms import sample

_CHUNK = 2**18  # points at once: one program for any number of points


def sample_points(image: np.ndarray, voxels: np.ndarray, *, order: int, outside: float | None) -> np.ndarray:
    """Samples an image at points.

    Args:
      image: `[*V, C]` float32 or int32.
      voxels: `[K, N]`, in voxels of the image, array-index order.
      order: 1 interpolates linearly, 0 takes the nearest voxel.
      outside: value more than half a voxel outside the image. None: that of the nearest voxel.

    Returns:
      `[K, C]` in the dtype of `image`.
    """
    on_device = jnp.asarray(image)[None]
    return _in_chunks(lambda chunk: _sample(on_device, chunk, order), image, voxels, outside)


def sample_labels(ranks: np.ndarray, voxels: np.ndarray, outside: float) -> np.ndarray:
    """Samples a segmentation at points: the label whose neighbouring voxels have the largest sum of linear weights.

    It is the argument of the maximum of the linearly interpolated one-hot segmentation, ITK's
    `LabelImageGenericInterpolateImageFunction`. Of equal sums the smallest rank counts.

    Args:
      ranks: `[*V]` int32.
      voxels: `[K, N]`, in voxels of the segmentation, array-index order.
      outside: rank outside of the segmentation.

    Returns:
      `[K]` int32.
    """
    on_device = jnp.asarray(ranks)
    return _in_chunks(lambda chunk: _heaviest(on_device, chunk)[:, None], ranks[..., None], voxels, outside)[:, 0]


def _in_chunks(function, image: np.ndarray, voxels: np.ndarray, outside: float | None) -> np.ndarray:
    last = np.array(image.shape[:-1]) - 1.0
    result = np.empty((len(voxels), image.shape[-1]), image.dtype)
    for start in range(0, len(voxels), _CHUNK):
        chunk = voxels[start : start + _CHUNK]
        size = len(chunk)
        clipped = np.zeros((_CHUNK if len(voxels) > _CHUNK else _round_up(size), voxels.shape[1]), np.float32)
        clipped[:size] = np.clip(chunk, 0, last)
        values = np.array(function(jnp.asarray(clipped)))[:size]
        if outside is not None:
            values[((chunk < -0.5) | (chunk > last + 0.5)).any(axis=1)] = outside
        result[start : start + _CHUNK] = values
    return result


def _round_up(size: int) -> int:
    """The next power of two, so that few sizes occur."""
    return 1 << max(4, (size - 1).bit_length())


@partial(jax.jit, static_argnums=2)
def _sample(image, voxels, order):
    num_axes = voxels.shape[-1]
    points = voxels.reshape(1, len(voxels), *(1,) * (num_axes - 1), num_axes)
    return sample(image, points, order=order, mode="nearest").reshape(len(voxels), -1)


@jax.jit
def _heaviest(ranks, voxels):
    last = jnp.asarray([ranks.shape]) - 1
    low = jnp.floor(voxels)
    part = voxels - low
    labels, weights = [], []
    for corner in itertools.product((0, 1), repeat=ranks.ndim):
        index = jnp.minimum(low.astype(jnp.int32) + jnp.asarray([corner]), last)
        labels.append(ranks[tuple(index[:, axis] for axis in range(ranks.ndim))])
        weights.append(jnp.prod(jnp.where(jnp.asarray([corner]) == 1, part, 1 - part), axis=1))
    labels, weights = jnp.stack(labels), jnp.stack(weights)
    sums = ((labels[:, None] == labels[None]) * weights[None]).sum(axis=1)
    heaviest = sums >= sums.max(axis=0, keepdims=True) - 1e-6
    return jnp.where(heaviest, labels, jnp.iinfo(jnp.int32).max).min(axis=0)
