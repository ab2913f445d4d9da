"""Checksums of compressed voxels, which the libraries that read them do not compare."""

import zlib
from pathlib import Path

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # of zlib: finds out which of the two a stream is
_GZIP_START = b"\x1f\x8b"
_BLOCK = 2**20  # bytes
_SLACK = 2**26  # bytes behind the voxels that are still looked at


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does."""
    with open(path, "rb") as file:
        return file.read(2) == _GZIP_START


def check_deflated(path: Path, declared: int, *, start: int = 0) -> None:
    """Checks a stream of gzip or zlib in a file by decompressing it, without keeping its content.

    Args:
      path: the file.
      declared: bytes that the stream should have. Of a stream that is longer by far, the end is not looked at.
      start: first byte of the stream in the file.

    Raises:
      ValueError: the stream is damaged or cut short, or something else follows it.
    """
    inflate, total = zlib.decompressobj(_GZIP_OR_ZLIB), 0
    with open(path, "rb") as file:
        file.seek(start)
        block = file.read(_BLOCK)
        while block:
            try:
                total += len(inflate.decompress(block, _BLOCK))
            except zlib.error as error:
                raise ValueError(f"its compressed voxels are damaged ({error})") from error
            if total > declared + _SLACK:
                return
            block = inflate.unconsumed_tail or inflate.unused_data or file.read(_BLOCK)
            if inflate.eof:
                if not block.strip(b"\0"):  # padding of tapes and blocks
                    block = file.read(_BLOCK)
                if block and not block.startswith(_GZIP_START):
                    raise ValueError("its compressed voxels are followed by something else")
                if block:
                    inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
    if not inflate.eof or total < declared:
        raise ValueError("its compressed voxels are cut short")
