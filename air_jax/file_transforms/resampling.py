"""Resampling of an image onto another grid through a chain of transforms, with one interpolation."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from air_jax.errors import UserError
from air_jax.file_transforms.chain import apply_chain
from air_jax.file_transforms.sampling import sample_labels, sample_points
from air_jax.io.space import to_physical, to_voxels
from air_jax.io.transform import Part
from air_jax.io.volume import Volume
from air_jax.transforms.spaces import label_ranks

_BLOCK = 2**20  # voxels at once: coordinates take 24 bytes each
_SECONDS = 2.0  # between two lines of progress


class Grid(NamedTuple):
    """The grid of an image: `shape` `[N]`, and `affine` `[N+1, N+1]`, array indices to physical space."""

    shape: tuple[int, ...]
    affine: np.ndarray


def resample(
    volume: Volume, grid: Grid, parts: Sequence[Part], interpolation: str, background: float, output: Path
) -> tuple[np.ndarray, float]:
    """Samples an image where a chain of transforms leads from each voxel of a grid.

    Coordinates are computed in float64. An image ends half a voxel beyond the centres of its outer voxels, as in ITK.

    Args:
      volume: the image `[*V]` or `[*V, C]`.
      grid: the grid of the result.
      parts: from physical points of the grid to physical points of the image.
      interpolation: "linear", "nearest" or "label".
      background: value outside of the image.
      output: the result's file, named by the lines of progress.

    Raises:
      UserError: the image's integers do not hold the background.

    Returns:
      The result, `[*S]` or `[*S, C]`: float32 for linear interpolation, otherwise in the image's dtype, whose values
      stay exact. And the share of its voxels that lie in the image, in [0, 1].
    """
    array = volume.array if volume.array.ndim > volume.num_axes else volume.array[..., None]
    table, values = _exact_values(array, interpolation, background)
    result = np.empty((int(np.prod(grid.shape)), values.shape[-1]), values.dtype)
    outside = float(background) if table is None else float(np.searchsorted(table, round(background)))
    inside = 0
    for block in _progressing(range(0, len(result), _BLOCK), len(result), output):
        indices = np.arange(block, min(block + _BLOCK, len(result)))
        voxels = np.stack(np.unravel_index(indices, grid.shape), axis=-1)
        points = to_voxels(apply_chain(parts, to_physical(voxels, grid.affine)), volume.affine)
        inside += int(((points >= -0.5) & (points <= np.array(volume.shape) - 0.5)).all(axis=1).sum())
        result[indices] = _sampler(interpolation)(values, points, outside)
    shaped = result.reshape(*grid.shape, *volume.array.shape[volume.num_axes :])
    return (shaped if table is None else table[shaped]), inside / len(result)


def _exact_values(array: np.ndarray, interpolation: str, background: float) -> tuple[np.ndarray | None, np.ndarray]:
    """For linear interpolation None and float32 values; for integers otherwise a table, and indices into it."""
    if interpolation == "linear" or array.dtype.kind not in "iu":
        return None, array.astype(np.float32)
    limits = np.iinfo(array.dtype)
    if not limits.min <= background <= limits.max or background != round(background):
        raise UserError(f"--background={background}: must be a whole number from {limits.min} to {limits.max} here")
    ids, (ranks, _) = label_ranks(array, np.array([round(background)], array.dtype))
    table = np.array(ids, array.dtype)
    order = np.argsort(table)
    return table[order], np.argsort(order).astype(np.int32)[ranks]


def _sampler(interpolation: str) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    if interpolation == "label":
        return lambda values, points, outside: sample_labels(values[..., 0], points, outside)[:, None]
    order = 1 if interpolation == "linear" else 0
    return lambda values, points, outside: sample_points(values, points, order=order, outside=outside)


def _progressing(blocks: range, total: int, output: Path) -> Iterator[int]:
    start = said = time.perf_counter()
    for block in blocks:
        yield block
        now, done = time.perf_counter(), min(block + blocks.step, total)
        if now - said > _SECONDS and done < total:
            said, left = now, (now - start) * (total - done) / done
            print(f"{output}: {100 * done / total:.0f} %, {left:.0f} s left", file=sys.stderr, flush=True)
