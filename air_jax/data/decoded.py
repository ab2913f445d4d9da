"""Cache of decoded images: decoding 70,000 small PNG images takes seconds at every start."""

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.data.dataset import Images
from air_jax.runtime.files import cache_folder, replacing

# Increase it when the same files are read into other arrays; older caches are then not used.
_FORMAT = 2
_DIGITS = 16


def decoded(name: str, folder: Path, decode: Callable[[], Images]) -> Images:
    """Returns decoded images from the user's cache folder, or decodes them and keeps them there.

    The cache holds as long as no file in `folder` changes. A cache that cannot be read is made again; where it cannot
    be written, nothing is kept.

    Args:
      name: name of the data set, for the name of the cache file.
      folder: folder of the data set's files; their names, sizes and times tell whether they have changed.
      decode: reads and decodes all images, with their classes where there are any.

    Returns:
      The images and classes, as `decode` returns them.
    """
    files = sorted(path for path in folder.glob("*") if path.is_file())
    if not files:  # not on this machine's disk
        return decode()
    stem = name.replace("/", "_")
    path = cache_folder() / "images" / f"{stem}-{_fingerprint(files)}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Images(arrays["images"], classes=arrays.get("classes"))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        images = decode()
    _keep(path, images)
    for other in path.parent.glob(f"{stem}-{'?' * _DIGITS}.npz"):
        if other != path:  # the cache of files that have changed since
            with contextlib.suppress(OSError):
                other.unlink()
    return images


def _keep(path: Path, images: Images) -> None:
    """Writes the cache file; on an error, such as a full disk, leaves none."""
    arrays: dict[str, Any] = {"images": images.images}
    if images.classes is not None:
        arrays["classes"] = images.classes
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, **arrays)


def _fingerprint(files: Sequence[Path]) -> str:
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((_FORMAT, facts)).encode()).hexdigest()[:_DIGITS]
