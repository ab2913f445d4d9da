"""Reading of files that are none, atomic writing of files, and the user's cache folder."""

import contextlib
import errno
import functools
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


def cache_folder() -> Path:
    """Returns the project's cache folder: `air_jax` in `XDG_CACHE_HOME`, or in `~/.cache`.

    Where the user has no home folder, as in some containers, it is a temporary folder, which is removed when the
    process ends. A line on stderr says so, once.
    """
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / "air_jax"
    try:
        return Path.home() / ".cache" / "air_jax"
    except RuntimeError:  # HOME is not set, and the system does not know the user
        return Path(_temporary_folder().name) / "air_jax"


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    """Creates a folder that only this user can read: programs in the cache are run, so nobody else may write them."""
    folder = tempfile.TemporaryDirectory(prefix="air_jax_cache_", ignore_cleanup_errors=True)
    print(
        f"air_jax: there is no home folder, so the cache is {folder.name} until this process ends; "
        "set HOME or XDG_CACHE_HOME to keep it",
        file=sys.stderr,
        flush=True,
    )
    return folder


def real_path(path: Path) -> Path:
    """Returns a path without symbolic links; links in a circle are left as they are, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))


def read_bytes(path: Path) -> bytes:
    """Reads a file; a pipe or a device, whose reading may never end, is refused.

    Args:
      path: path of the file.

    Raises:
      OSError: it cannot be read, or is no file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is a folder, a pipe or a device", str(path))
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """Reads a JSON file, see `read_bytes`.

    Args:
      path: path of the file.

    Raises:
      OSError: it cannot be read, or is no file.
      ValueError: it is not JSON in UTF-8, or is too deeply nested.
    """
    try:
        return json.loads(read_bytes(path))
    except RecursionError as error:
        raise ValueError("too deeply nested") from error


def replace_text(path: Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8; a killed process leaves the old file or the new one, never a part.

    Args:
      path: path of the file; its folder must exist.
      text: whole content.

    Raises:
      OSError: the file cannot be written; the old one is unchanged.
    """
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file that replaces `path` when the block ends without an error; otherwise it is removed.

    The file has an unpredictable name in the same folder, and must not exist before: a symbolic link that someone else
    put there is not followed.

    Args:
      path: path of the file to be replaced; its folder must exist.

    Yields:
      The open file.
    """
    partial = path.with_name(f".{secrets.token_hex(16)}.partial")
    with open(partial, "xb") as file:
        try:
            yield file
            file.close()
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
