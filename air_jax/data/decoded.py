"""Decoded images, kept between runs: decoding 70,000 small PNGs takes seconds at every start."""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from air_jax.data.dataset import Images
from air_jax.files import cache_folder


def decoded(name: str, folder: Path, decode: Callable[[], Images]) -> Images:
    """What `decode` returns; from the user's cache folder, where it was kept before, as long as no file has changed.

    A cache that cannot be read is made anew, and one that cannot be written is done without.

    Args:
      name: the set's name, for the file's.
      folder: where the set's files are; their names, sizes and times tell whether they are still the same.
      decode: reads and decodes all of them.
    """
    path = cache_folder() / "images" / f"{name.replace('/', '_')}-{_fingerprint(folder)}.npz"
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
    except OSError:  # a full disk, say: half a file would stay for good
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return images


def _fingerprint(folder: Path) -> str:
    files = sorted(path for path in folder.glob("*") if path.is_file())
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((str(folder), facts)).encode()).hexdigest()[:16]
