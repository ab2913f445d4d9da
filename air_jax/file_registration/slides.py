"""The warped picture at full size, where the registration used reduced pictures."""

from pathlib import Path

import numpy as np
import scipy.ndimage

from air_jax.file_registration.inputs import Inputs
from air_jax.io.slides import TILE, full_pixels, release, write_tiled
from air_jax.io.volume import Volume, rounded_to


def is_reduced(inputs: Inputs) -> bool:
    """Whether one of the pictures was registered at a reduced size."""
    return any(side.volume.full_shape is not None for side in (inputs.fixed, inputs.moving))


def write_full_picture(path: Path, inputs: Inputs, displacement: np.ndarray) -> None:
    """Warps the moving picture onto the full fixed picture's grid, tile by tile, into a tiled TIFF.

    The displacement is interpolated linearly between the centres of the reduced pixels, and continues beyond them with
    the values at the border.

    Args:
      path: the file, `.tif`.
      inputs: the files' content.
      displacement: the whole displacement `[*S, 2]` of the fixed grid, in its voxels.

    Raises:
      UserError: the moving picture cannot be read again, or the file cannot be written.
    """
    fixed, moving = inputs.fixed.volume, inputs.moving.volume
    pixels = full_pixels(inputs.moving.path)
    shape = _full_shape(fixed)
    displacement = np.moveaxis(displacement.astype(np.float64), -1, 0)
    background = np.broadcast_to(inputs.background, pixels.shape[2:])

    def tile_at(row: int, column: int) -> np.ndarray:
        if column == 0:
            release(pixels)
        rows, columns = np.arange(row, min(row + TILE, shape[0])), np.arange(column, min(column + TILE, shape[1]))
        here = np.stack(np.meshgrid(rows, columns, indexing="ij")).astype(np.float64)
        voxels = _to_blocks(here, fixed.spacing)
        moved = voxels + np.stack(
            [scipy.ndimage.map_coordinates(part, voxels, order=1, mode="nearest") for part in displacement]
        )
        matrix = inputs.voxel_to_voxel
        there = np.tensordot(matrix[:, :-1], moved, axes=1) + matrix[:, -1, None, None]
        return _sampled(pixels, _to_pixels(there, moving.spacing), background)

    write_tiled(path, (*shape, *pixels.shape[2:]), pixels.dtype, tile_at)


def _full_shape(volume: Volume) -> tuple[int, ...]:
    return volume.shape if volume.full_shape is None else volume.full_shape


def _to_blocks(pixels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Coordinates `[2, ...]` in pixels of the file, as voxels of the reduced picture."""
    spacing = spacing[:, None, None]
    return (pixels - (spacing - 1) / 2) / spacing


def _to_pixels(voxels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    spacing = spacing[:, None, None]
    return voxels * spacing + (spacing - 1) / 2


def _sampled(pixels: np.ndarray, points: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Interpolates linearly at points `[2, h, w]`; reads no more of the picture than it needs."""
    low = np.maximum(np.floor(points.min(axis=(1, 2))).astype(int), 0)
    high = np.minimum(np.ceil(points.max(axis=(1, 2))).astype(int) + 1, pixels.shape[:2])
    result = np.empty((*points.shape[1:], *pixels.shape[2:]), pixels.dtype)
    if (high <= low).any():
        result[...] = rounded_to(background, pixels.dtype)
        return result
    part = np.asarray(pixels[low[0] : high[0], low[1] : high[1]], np.float32)
    local = points - low[:, None, None]
    for channel in np.ndindex(pixels.shape[2:]):
        values = scipy.ndimage.map_coordinates(
            part[(..., *channel)], local, order=1, mode="constant", cval=float(background[channel])
        )
        result[(..., *channel)] = rounded_to(values, pixels.dtype)
    return result
