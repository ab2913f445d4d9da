"""Decoded images, kept between runs: decoding 70,000 small PNGs takes seconds at every start."""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from air_jax.data.dataset import Images
from air_jax.runtime.files import cache_folder

# To be raised when the same files are to be read into other arrays.
_FORMAT = 1
_DIGITS = 16


def decoded(name: str, folder: Path, decode: Callable[[], Images]) -> Images:
    """What `decode` returns; from the user's cache folder, where it was kept before, as long as no file has changed.

    A cache that cannot be read is made anew, and one that cannot be written is done without.

    Args:
      name: the set's name, for the file's.
      folder: where the set's files are; their names, sizes and times tell whether they are still the same.
      decode: reads and decodes all of them.
    """
    files = sorted(path for path in folder.glob("*") if path.is_file())
    if not files:  # not on this machine's disk
        return decode()
    stem = name.replace("/", "_")
    path = cache_folder() / "images" / f"{stem}-{_fingerprint(files)}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Images(arrays["images"], arrays.get("labels"))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        images = decode()
    arrays = {"images": images.images} | ({} if images.labels is None else {"labels": images.labels})
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
        for other in path.parent.glob(f"{stem}-{'?' * _DIGITS}.npz"):
            if other != path:  # of files that were
                other.unlink()
    except OSError:  # a full disk, say: half a file would stay for good
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return images


def _fingerprint(files: Sequence[Path]) -> str:
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((_FORMAT, facts)).encode()).hexdigest()[:_DIGITS]
