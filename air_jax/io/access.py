"""What every reader and writer here shares: one line for a file that cannot be read, no half-written files."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from air_jax.errors import UserError


def library(name: str, path: Path) -> ModuleType:
    """Imports what only some files need; `path` is the file in question.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.replace("PIL.Image", "pillow")
        raise UserError(f"{path}: needs {package}, which is not installed: pip install 'air_jax[files]'") from error


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever is raised for an unreadable file into a `UserError` of one line; `kind` says what it should be."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give {kind}")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: is empty; give {kind}")
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; give {kind}") from error
    except PermissionError as error:
        raise UserError(f"{path}: may not be read; change its permissions") from error
    # Damaged files make the libraries raise nearly anything.
    except Exception as error:
        raise UserError(f"{path}: damaged, or not {kind} ({_reason(error)})") from error


@contextmanager
def writing(path: Path, suffix: str) -> Iterator[Path]:
    """Gives the name to write to, which takes the place of `path` when all went well and is removed when not.

    Args:
      suffix: how that name ends; libraries choose the format by it.

    Raises:
      UserError: the file cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot be written, its folder does not exist; make it first")
    partial = path.with_name(f"{path.name}.partial{suffix}")
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
