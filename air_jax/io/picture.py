"""PNG, JPEG and TIFF pictures. Their physical unit is the pixel: x is the column, y the row, the first pixel is 0."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.space import reversed_affine
from air_jax.io.volume import Volume, plain

_KIND = "a PNG, JPEG or TIFF picture"


def read_picture(path: Path, convert: Callable[[np.ndarray], np.ndarray] = plain) -> Volume:
    """Reads a grey or colour picture.

    As in ITK, an EXIF orientation is not applied. Transparency is dropped, a palette becomes colours, and one-bit
    pixels become 0 and 255. Pillow reads colours of 16 bits as 8 bits.

    Args:
      path: the file.
      convert: applied to the pixels.

    Returns:
      `[H, W]` uint8 or uint16 (float32 or int32 from a TIFF of 32 bits), or `[H, W, 3]` uint8; and the affine from
      (row, column) to (x, y).

    Raises:
      UserError: one line that names the file: it cannot be read, has several pages, or is too large.
    """
    pillow = library("PIL.Image", path)
    with reading(path, _KIND):
        try:
            picture = pillow.open(path, formats=("PNG", "JPEG", "TIFF"))
        except pillow.DecompressionBombError as error:
            raise UserError(f"{path}: has more pixels than Pillow reads ({error}); make it smaller first") from error
        with picture:
            # A phone's JPEG may carry a preview as a second picture (MPO); the first one is meant.
            if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
                raise UserError(f"{path}: has {picture.n_frames} pages; give a picture of one page")
            return Volume(convert(np.asarray(_grey_or_rgb(picture))), reversed_affine(np.ones(2)))


def write_picture(path: Path, array: np.ndarray, suffix: str) -> None:
    """Writes a grey or colour picture.

    Args:
      path: the file; an existing one is replaced.
      array: `[H, W]`, `[H, W, 1]` or `[H, W, 3]`. Floats are clipped to [0, 1], scaled by 255 and rounded; uint8,
        and uint16 in grey, are stored unchanged.
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
    is_wide = pixels.dtype == np.uint16 and pixels.ndim == 2 and suffix not in (".jpg", ".jpeg")
    if pixels.dtype != np.uint8 and not is_wide:
        raise UserError(f"{path}: {suffix} cannot hold {pixels.dtype} of shape {pixels.shape}; write uint8 or .npz")
    options = {"quality": 95} if suffix in (".jpg", ".jpeg") else {}
    with writing(path, suffix) as partial:
        pillow.fromarray(pixels).save(partial, **options)


def _grey_or_rgb(picture: Any) -> Any:
    """Converts a Pillow picture to a mode that NumPy reads as `[H, W]` or `[H, W, 3]`."""
    if picture.mode in ("L", "RGB", "F", "I") or picture.mode.startswith("I;16"):
        return picture
    if picture.mode in ("1", "LA"):
        return picture.convert("L")
    # In one step, Pillow warns that it drops the palette's transparency.
    return picture.convert("RGBA").convert("RGB") if picture.mode in ("P", "PA") else picture.convert("RGB")
