"""Pixels of TIFF files, exact in every sample format.

tifffile reads them. It decodes no compression but Deflate, LZMA and PackBits by itself; the others are left to Pillow
(8 bits) and to ITK, where these give the same type and shape.
"""

import logging
import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading
from air_jax.io.itk import read_pixels
from air_jax.io.memory import check_declared
from air_jax.io.pillow import pillow_pixels

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_ALPHA = ((1,), (2,))  # ExtraSamples
_NO_COMPRESSION = 1
_READ_BYTES = 2**23  # of compressed pixels at once
_RELEASED_BYTES = 2**26  # of decompressed pixels, after which their memory is given back


def is_tiff(path: Path) -> bool:
    """Returns whether a file starts as a TIFF or BigTIFF file does."""
    with open(path, "rb") as file:
        return file.read(4) in _SIGNATURES


def tiff_pixels(path: Path) -> np.ndarray:
    """Reads a TIFF of one page.

    Args:
      path: the file.

    Returns:
      `[H, W]` or `[H, W, 3]` in the file's sample format. Palettes become uint8 colours, one-bit pixels 0 and 255.
      Transparency is dropped.

    Raises:
      UserError: the file has several pages, or content that is neither grey nor RGB; or it needs a library for its
        compression.
      ValueError: tifffile cannot read the file. It also raises other exceptions.
    """
    with _opened(path) as file:
        if (pages := _num_pages(file)) > 1:
            raise UserError(f"{path}: has {pages} pages; give a picture of one page")
        page = file.pages.first
        _check_content(path, page)
        held = path.stat().st_size if page.compression == _NO_COMPRESSION else None
        check_declared(path, page.size * page.bitspersample // 8, held=held)
        return pillow_pixels(path) if page.photometric in (_CMYK, _YCBCR) else _decoded(path, page)


def tiff_pages(path: Path) -> np.ndarray:
    """Reads a TIFF of several pages.

    Args:
      path: the file.

    Returns:
      `[T, H, W]` or `[T, H, W, 3]` in the file's sample format.

    Raises:
      UserError: the file cannot be read; pages have different sizes or types; or see `tiff_pixels`.
    """
    with reading(path, "a TIFF with several pages"), _opened(path) as file:
        first = file.pages.first
        _check_content(path, first)
        held = path.stat().st_size if first.compression == _NO_COMPRESSION else None
        check_declared(path, _num_pages(file) * first.size * first.bitspersample // 8, held=held)
        # ImageJ keeps the pages of large files as one contiguous block behind the first page.
        if len(file.pages) < _num_pages(file):
            return file.asarray(series=0).reshape(-1, *first.shape)
        pages = []
        for page in file.pages:
            if (page.shape, page.dtype) != (first.shape, first.dtype):
                raise UserError(f"{path}: its pages have different sizes or types; give pages of one kind")
            try:
                pages.append(_grey_or_rgb(path, page, page.asarray()))
            except ValueError as error:
                if "imagecodecs" in str(error):
                    raise _unknown_compression(path, page) from error
                raise
        return np.stack(pages)


def mapped_pixels(path: Path, *, at_least: int | None) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Reads a grey or RGB picture of 8 or 16 bits without holding it in memory: its pixels lie in a file on the disk.

    Args:
      path: the file. It may have a pyramid, a series of ever smaller levels.
      at_least: pixels along the longer side that the result should have; the smallest such level is read. Default: the
        picture itself.

    Returns:
      `[H, W]` or `[H, W, 3]`, and the sizes of the picture itself. None where no side is longer than `at_least`, or
      where the picture needs a conversion; `tiff_pixels` reads such files.

    Raises:
      UserError: it needs a library for its compression.
    """
    with _opened(path) as file:
        levels = file.series[0].levels
        page = levels[0].keyframe
        is_plain = page.photometric in (_BLACK_IS_ZERO, _RGB) and page.dtype in (np.uint8, np.uint16)
        full_shape = levels[0].shape[:2]
        if levels[0].axes not in ("YX", "YXS") or not is_plain or max(full_shape) <= (at_least or 0):
            return None
        large = [level for level in levels if max(level.shape[:2]) >= (at_least or max(full_shape))]
        try:
            pixels = _on_disk(large[-1])
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise _unknown_compression(path, page) from error
            raise
    return (pixels[..., :3] if page.photometric == _RGB else pixels.reshape(pixels.shape[:2])), full_shape


def _on_disk(level: Any) -> np.ndarray:
    """Returns the pixels of a level as a file on the disk: its own, or decompressed tile by tile."""
    page = level.pages[0]
    if level.keyframe.is_memmappable:
        return level.asarray(out="memmap")
    with tempfile.NamedTemporaryFile() as file:
        pixels = np.memmap(file.name, level.dtype, "w+", shape=level.shape)  # lives on without the file's name
    written = 0
    for part, index, shape in page.segments(buffersize=_READ_BYTES):
        if part is None:
            continue  # a tile that the file leaves out is 0
        top, left = index[2:4]
        height, width = shape[1:3]
        place = pixels[top : top + height, left : left + width]
        place[...] = part[0, : place.shape[0], : place.shape[1]].reshape(place.shape)
        written += part.nbytes
        if written > _RELEASED_BYTES:
            release(pixels)
            written = 0
    return pixels


def release(pixels: np.ndarray) -> None:
    """Gives the memory of pixels that lie on the disk back; they are read again when they are needed."""
    mapped = getattr(pixels, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yields tifffile's open file, and prints none of its warnings about odd tags.

    Raises:
      ValueError: the chain of pages ends outside of the file: it was cut off. tifffile only logs that.
    """
    tifffile, log, errors = library("tifffile", path), logging.getLogger("tifffile"), []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            errors.append(record.getMessage())
        return False

    log.addFilter(keep)
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    finally:
        log.removeFilter(keep)
    if any("TiffPages" in error for error in errors):
        raise ValueError("pages are missing")


def _num_pages(file: Any) -> int:
    return max(len(file.pages), (file.imagej_metadata or {}).get("images", 1))


def _check_content(path: Path, page: Any) -> None:
    """Raises `UserError` for everything but one plane of grey, palette or RGB samples."""
    bits = page.bitspersample
    colours = {_BLACK_IS_ZERO: 1, _PALETTE: 1, _RGB: 3, _CMYK: 4, _YCBCR: 3}.get(page.photometric)
    if page.dtype is None or page.dtype.kind not in "biuf":
        raise UserError(f"{path}: has samples of {bits} bits of format {_name(page.sampleformat)}; give real numbers")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise UserError(f"{path}: is no plane of pixels but has shape {page.shape} ({page.axes}); give one plane")
    if page.photometric == _WHITE_IS_ZERO:
        # Pillow inverts such files of 8 bits, and no others; ITK and tifffile invert none.
        raise UserError(f"{path}: has 0 as white, which programs read in two ways; save it with 0 as black")
    if colours is None:
        raise UserError(f"{path}: has the colours {_name(page.photometric)}; save it as grey or RGB")
    extra = page.samplesperpixel - colours
    if extra not in (0, 1) or (extra and page.extrasamples[:1] not in _ALPHA):
        raise UserError(f"{path}: has {page.samplesperpixel} channels; give grey, RGB, or these with transparency")
    if page.photometric in (_CMYK, _YCBCR) and page.dtype != np.uint8:
        raise UserError(f"{path}: has {bits}-bit colours {_name(page.photometric)}; save it as grey or RGB")


def _decoded(path: Path, page: Any) -> np.ndarray:
    """Returns the pixels `[H, W]` or `[H, W, 3]` of a page."""
    try:
        return _grey_or_rgb(path, page, page.asarray())
    # An unknown compression is a ValueError that names the package.
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    pixels = _decoded_by_others(path, page)
    if pixels is None:
        raise _unknown_compression(path, page)
    return pixels


def _unknown_compression(path: Path, page: Any) -> UserError:
    return UserError(
        f"{path}: has {page.dtype} samples compressed by {_name(page.compression)}; install imagecodecs, or save it "
        "without compression"
    )


def _decoded_by_others(path: Path, page: Any) -> np.ndarray | None:
    """Returns the pixels of a page as Pillow or ITK decodes them; None where these cannot, or not exactly."""
    try:
        if page.bitspersample in (1, 8) and page.dtype.kind != "i":
            return pillow_pixels(path)
        pixels = read_pixels(path, "TIFFImageIO")
    except OSError:
        return None
    is_exact = pixels.dtype == page.dtype and pixels.shape == page.shape and page.photometric != _PALETTE
    return pixels if is_exact else None


def _grey_or_rgb(path: Path, page: Any, pixels: np.ndarray) -> np.ndarray:
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    if page.photometric == _RGB:
        return pixels[..., :3]
    grey = pixels[..., 0] if page.axes != "YX" else pixels
    if page.photometric == _PALETTE:
        if page.colormap is None:
            raise UserError(f"{path}: has palette colours without a palette; save it as grey or RGB")
        return (page.colormap >> 8).astype(np.uint8)[:, grey].transpose(1, 2, 0)
    return np.where(grey, np.uint8(255), np.uint8(0)) if grey.dtype == bool else grey


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))
