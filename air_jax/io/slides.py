"""Large pictures: read at a reduced size, and written at full size tile by tile.

The physical space of a reduced picture is that of the full one: coordinates count its pixels.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.image import PICTURES, read_image, read_segmentation, suffix_of
from air_jax.io.space import reversed_affine
from air_jax.io.tiff import is_tiff, mapped_pixels, release
from air_jax.io.volume import Volume, plain

TILE = 512  # pixels along each side
SMALLEST_LEVEL = 1024  # pixels along the longer side of the last level of a pyramid
_KIND = "a PNG, JPEG or TIFF picture"


def read_reduced(path: Path, max_size: int) -> Volume:
    """Reads an image; a picture with a longer side than `max_size` is averaged over blocks of pixels.

    Args:
      path: the file, see `air_jax.io.read_image`. Levels of a pyramid are used where they are large enough.
      max_size: largest number of pixels along a side, at least 1.

    Returns:
      The image. That of a large picture has the sizes of the file's picture as `full_shape`; its affine leads from its
      own pixels to those of the file. Pixels that fill no whole block at the end of an axis are left out.

    Raises:
      UserError: one line that names the file: it cannot be read.
    """
    if suffix_of(path) not in PICTURES:
        return read_image(path)
    with reading(path, _KIND):
        mapped = mapped_pixels(path, at_least=max_size) if is_tiff(path) else None
    if mapped is None:
        volume = read_image(path)
        if max(volume.shape) <= max_size:
            return volume
        mapped = volume.array, volume.shape
    level, full_shape = mapped
    factor = -(-max(level.shape[:2]) // max_size)
    reduced = _block_means(level, factor)
    ratio = np.array(full_shape) / np.array(level.shape[:2])
    return Volume(plain(reduced), _pixel_affine(factor * ratio), tuple(full_shape))


def full_pixels(path: Path) -> np.ndarray:
    """Returns the pixels `[H, W]` or `[H, W, 3]` of a picture at full size; those of a TIFF stay on the disk.

    Raises:
      UserError: one line that names the file.
    """
    with reading(path, _KIND):
        mapped = mapped_pixels(path, at_least=None) if is_tiff(path) else None
    return read_image(path).array if mapped is None else mapped[0]


def reduced_segmentation(path: Path, volume: Volume) -> Volume:
    """Reads a segmentation of a picture's file, at the pixels of the reduced picture: the one next to each centre.

    Args:
      path: the file; its grid is that of the full picture.
      volume: the reduced picture.

    Raises:
      UserError: one line that names the file: it cannot be read, or has another size.
    """
    return _at_pixels(path, read_segmentation(path), volume)


def reduced_mask(path: Path, volume: Volume) -> Volume:
    """Reads a mask in the same way as `reduced_segmentation`; it keeps its type."""
    return _at_pixels(path, read_image(path), volume)


def write_tiled(path: Path, shape: tuple[int, ...], dtype: np.dtype, tile_at: Callable[[int, int], np.ndarray]) -> None:
    """Writes a tiled, compressed TIFF with a pyramid of halved levels; only one tile of the picture is in memory.

    Args:
      path: the file, `.tif`; an existing one is replaced. It is a BigTIFF where it needs to be.
      shape: `[H, W]` or `[H, W, 3]`.
      dtype: uint8 or uint16.
      tile_at: `tile_at(row, column)` returns the pixels from there on, at most `TILE` along each axis.

    Raises:
      UserError: one line that names the file.
    """
    tifffile = library("tifffile", path)
    levels = _level_shapes(shape)
    half = np.zeros(levels[1], dtype) if len(levels) > 1 else None

    def tiles() -> Iterator[np.ndarray]:
        for row in range(0, shape[0], TILE):
            for column in range(0, shape[1], TILE):
                tile = tile_at(row, column)
                if half is not None:
                    _put_halved(half, tile, row, column)
                yield _filled(tile)

    options = {
        "tile": (TILE, TILE),
        "photometric": "rgb" if len(shape) == 3 else "minisblack",
        "compression": "zlib",
        "metadata": None,
    }
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with writing(path, path.suffix) as partial, tifffile.TiffWriter(partial, bigtiff=size > 2**31) as file:
        file.write(tiles(), shape=shape, dtype=dtype, subifds=len(levels) - 1, **options)
        for level in levels[1:]:
            file.write(half, subfiletype=1, **options)
            if half is not None and level is not levels[-1]:
                half = _block_means(half, 2)


def _level_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes = [tuple(shape)]
    while max(shapes[-1][:2]) > SMALLEST_LEVEL and min(shapes[-1][:2]) > 1:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2, *shape[2:]))
    return shapes


def _put_halved(half: np.ndarray, tile: np.ndarray, row: int, column: int) -> None:
    small = _block_means(tile[: 2 * (tile.shape[0] // 2), : 2 * (tile.shape[1] // 2)], 2)
    top, left = row // 2, column // 2
    small = small[: half.shape[0] - top, : half.shape[1] - left]
    half[top : top + small.shape[0], left : left + small.shape[1]] = small


def _filled(tile: np.ndarray) -> np.ndarray:
    widths = [(0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), *[(0, 0)] * (tile.ndim - 2)]
    return np.pad(tile, widths)


def _block_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Averages over blocks, a row of blocks at a time; integers are rounded and keep their type."""
    if factor == 1:
        return np.asarray(pixels)
    rows, columns = (size // factor for size in pixels.shape[:2])
    means = np.empty((rows, columns, *pixels.shape[2:]), pixels.dtype)
    for row in range(rows):
        block = np.asarray(pixels[row * factor : (row + 1) * factor, : columns * factor], np.float32)
        mean = block.reshape(factor, columns, factor, *pixels.shape[2:]).mean(axis=(0, 2))
        means[row] = np.rint(mean) if pixels.dtype.kind in "iu" else mean
        if row % 64 == 63:
            release(pixels)
    release(pixels)
    return means


def _pixel_affine(spacing: np.ndarray) -> np.ndarray:
    """Returns the affine of blocks of pixels: the centre of the first block lies at `(spacing - 1) / 2`."""
    affine = reversed_affine(spacing)
    affine[:-1, -1] = (spacing[::-1] - 1) / 2
    return affine


def _at_pixels(path: Path, found: Volume, volume: Volume) -> Volume:
    if volume.full_shape is None:
        return found
    if found.shape != volume.full_shape:
        raise UserError(f"{path}: has shape {found.shape}, but its picture has {volume.full_shape}")
    rows, columns = (
        np.rint(spacing * np.arange(size) + (spacing - 1) / 2).astype(int)
        for spacing, size in zip(volume.spacing, volume.shape, strict=True)
    )
    return Volume(found.array[np.ix_(rows, columns)], volume.affine, volume.full_shape)
