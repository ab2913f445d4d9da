"""SimpleITK, as the readers and writers of this room use it: silent, and one format at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.io.access import library


@contextmanager
def silent(path: Path) -> Iterator[Any]:
    """Yields the module SimpleITK, whose warnings are not printed meanwhile.

    Args:
      path: the file that needs it, for the message.

    Raises:
      UserError: SimpleITK is not installed.
    """
    sitk = library("SimpleITK", path)
    were_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(were_shown)


def read_pixels(path: Path, image_io: str) -> np.ndarray:
    """Reads a picture with one of ITK's own readers.

    Args:
      path: the file.
      image_io: name of the reader, such as `PNGImageIO`.

    Returns:
      `[H, W]`, or `[H, W, C]`, in the file's type.

    Raises:
      RuntimeError: ITK cannot read the file.
    """
    with silent(path) as sitk:
        return sitk.GetArrayFromImage(sitk.ReadImage(path, imageIO=image_io))


def write_colours(path: Path, pixels: np.ndarray) -> None:
    """Writes colours `[H, W, 3]` in the format of the name's ending."""
    with silent(path) as sitk:
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), path)
