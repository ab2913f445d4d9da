"""Pixels of pictures as Pillow reads them. 16-bit colours of PNG, which Pillow cuts to 8 bits, are read by ITK."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library
from air_jax.io.itk import read_pixels
from air_jax.io.memory import DEFLATE, check_declared

_GREY_ALPHA = 4  # PNG's colour types; 2 and 6 are RGB and RGBA


def pillow_pixels(path: Path) -> np.ndarray:
    """Reads a PNG, a JPEG or an 8-bit TIFF.

    Args:
      path: the file.

    Returns:
      `[H, W]` or `[H, W, 3]`, uint8 or uint16.

    Raises:
      UserError: the file has several pages, too many pixels, or 16-bit grey with transparency.
      OSError: Pillow cannot read the file.
    """
    pillow = library("PIL.Image", path)
    with warnings.catch_warnings():
        # Pillow warns of pictures that it reads all the same; of damaged ones it also raises.
        warnings.simplefilter("ignore")
        try:
            picture = pillow.open(path, formats=("PNG", "JPEG", "TIFF"))
        except pillow.DecompressionBombError as error:
            raise UserError(f"{path}: has more pixels than Pillow reads ({error}); make it smaller first") from error
        with picture:
            # A phone's JPEG may carry a preview as a second picture (MPO); the first one is meant.
            if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
                raise UserError(f"{path}: has {picture.n_frames} pages; give a picture of one page")
            # Pixels of 1 bit, the smallest of PNG, take a byte in memory.
            held = path.stat().st_size * DEFLATE * 8 if picture.format == "PNG" else None
            check_declared(path, picture.width * picture.height * len(picture.getbands()), held=held)
            if picture.format == "PNG" and (colour_type := _colour_type_of_16_bits(path)):
                if colour_type == _GREY_ALPHA:
                    raise UserError(f"{path}: is 16-bit grey with transparency; save it without transparency")
                return read_pixels(path, "PNGImageIO")[..., :3]
            return np.asarray(_grey_or_rgb(picture))


def _colour_type_of_16_bits(path: Path) -> int:
    """Returns PNG's colour type where a sample has 16 bits and a pixel several samples; otherwise 0."""
    with open(path, "rb") as file:
        depth, colour_type = file.read(26)[24:]
    return colour_type if depth == 16 else 0


def _grey_or_rgb(picture: Any) -> Any:
    """Converts a Pillow picture to a mode that NumPy reads as `[H, W]` or `[H, W, 3]`."""
    if picture.mode in ("L", "RGB") or picture.mode.startswith("I;16"):
        return picture
    if picture.mode in ("1", "LA"):
        return picture.convert("L")
    # In one step, Pillow warns that it drops the palette's transparency.
    return picture.convert("RGBA").convert("RGB") if picture.mode in ("P", "PA") else picture.convert("RGB")
