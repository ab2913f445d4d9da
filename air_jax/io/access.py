"""Shared by all readers and writers: errors of one line, optional libraries, no half-written files."""

import importlib
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from air_jax.errors import UserError


def library(name: str, path: Path) -> ModuleType:
    """Imports an optional library.

    Args:
      name: the module's name, such as `nibabel` or `PIL.Image`.
      path: the file that needs it, for the message.

    Raises:
      UserError: the library is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.replace("PIL.Image", "pillow")
        raise UserError(f"{path}: needs {package}, which is not installed: pip install 'air_jax[files]'") from error


@contextmanager
def reading(path: Path, kind: str, *, is_folder: bool = False) -> Iterator[None]:
    """Turns every exception raised while a file is read into a `UserError`.

    Args:
      path: the file.
      kind: the expected kind of file, for the message: "a NIfTI image (.nii, .nii.gz)".
      is_folder: whether a folder is read.

    Raises:
      UserError: one line that names the file: it is missing, empty, a folder, a pipe, unreadable or damaged.
    """
    # It logs what is wrong with a header, beside which our own line would be the second.
    log = logging.getLogger("nibabel.global")
    was_disabled, log.disabled = log.disabled, True
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) != is_folder:
            raise UserError(f"{path}: is a {'file' if is_folder else 'folder'}; give {kind}")
        if not os.access(path, os.R_OK):
            raise UserError(f"{path}: may not be read; change its permissions")
        # Reading a pipe or a device may never end.
        if not is_folder and not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: is a pipe or a device; give {kind}")
        if not is_folder and status.st_size == 0:
            raise UserError(f"{path}: is empty; give {kind}")
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; give {kind}") from error
    except PermissionError as error:
        raise UserError(f"{path}: may not be read; change its permissions") from error
    # The libraries raise exceptions of many types for damaged files.
    except Exception as error:
        raise UserError(f"{path}: damaged, or not {kind} ({_reason(error)})") from error
    finally:
        log.disabled = was_disabled


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns a `ValueError` about the values of a file into a `UserError`.

    Args:
      path: the file.

    Raises:
      UserError: one line that names the file and gives the reason.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


@contextmanager
def writing(path: Path, suffix: str) -> Iterator[Path]:
    """Yields a temporary path, which replaces `path` if no exception is raised and is removed otherwise.

    Args:
      path: the file to write.
      suffix: ending of the temporary path; libraries choose the format by it.

    Raises:
      UserError: the file cannot be written.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is a {'folder' if path.is_dir() else 'pipe or a device'}; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot be written, its folder does not exist; make it first")
    # Nobody can have put a symbolic link at an unpredictable name.
    partial = path.with_name(f".{secrets.token_hex(16)}.partial{suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from error
    finally:
        partial.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].strip().rstrip(".")
