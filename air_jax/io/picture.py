"""PNG, JPEG and TIFF pictures. Their physical unit is the pixel: x is the column, y the row, the first pixel is 0."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.itk import write_colours
from air_jax.io.pillow import pillow_pixels
from air_jax.io.space import reversed_affine
from air_jax.io.tiff import is_tiff, tiff_pixels
from air_jax.io.volume import Volume, plain

_KIND = "a PNG, JPEG or TIFF picture"
_JPEG = (".jpg", ".jpeg")


def read_picture(path: Path, convert: Callable[[np.ndarray], np.ndarray] = plain) -> Volume:
    """Reads a grey or colour picture.

    As in ITK, an EXIF orientation is not applied. Transparency is dropped, a palette becomes colours, and one-bit
    pixels become 0 and 255. See `air_jax.io.tiff` for TIFF.

    Args:
      path: the file.
      convert: applied to the pixels.

    Returns:
      `[H, W]` or `[H, W, 3]`, uint8 or uint16 (TIFF: any type); and the affine from (row, column) to (x, y).

    Raises:
      UserError: one line that names the file: it cannot be read, has several pages, is too large, or has channels or
        samples that cannot be read exactly.
    """
    with reading(path, _KIND):
        pixels = tiff_pixels(path) if is_tiff(path) else pillow_pixels(path)
        return Volume(convert(pixels), reversed_affine(np.ones(2)))


def write_picture(path: Path, array: np.ndarray, suffix: str) -> None:
    """Writes a grey or colour picture.

    Args:
      path: the file; an existing one is replaced.
      array: `[H, W]`, `[H, W, 1]` or `[H, W, 3]`. Floats are clipped to [0, 1], scaled by 255 and rounded; uint8, and
        uint16 in PNG and TIFF, are stored unchanged.
      suffix: `.png`, `.jpg`, `.jpeg`, `.tif` or `.tiff`.

    Raises:
      UserError: the format cannot hold such an array, or the file cannot be written.
    """
    pillow = library("PIL.Image", path)
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim != 2 and pixels.shape[2:] != (3,):
        raise UserError(f"{path}: a picture cannot hold an array of shape {array.shape}; write .nii.gz or .npz")
    if not np.issubdtype(pixels.dtype, np.integer):
        pixels = np.round(np.clip(pixels.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    is_wide = pixels.dtype == np.uint16 and suffix not in _JPEG
    if pixels.dtype != np.uint8 and not is_wide:
        raise UserError(f"{path}: {suffix} cannot hold {pixels.dtype} of shape {pixels.shape}; write uint8 or .npz")
    options = {"quality": 95} if suffix in _JPEG else {}
    with writing(path, suffix) as partial:
        if is_wide and pixels.ndim == 3:  # Pillow has no such mode
            write_colours(partial, pixels)
        else:
            pillow.fromarray(pixels).save(partial, **options)
