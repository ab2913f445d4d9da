"""The output folder of a registration. Only its own files are replaced; it is complete when scores.json is there."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from air_jax.errors import UserError
from air_jax.io.image import SUFFIXES
from air_jax.runtime.files import read_json, real_path, replace_text

SCORES = "scores.json"
_INCOMPLETE = ".incomplete.json"  # lists the files of a registration that has not ended
# Files of versions whose scores.json did not list them.
_UNLISTED = ("displacement.nii.gz", "inverse_displacement.nii.gz", "jacobian.nii.gz", "report.png", "landmarks.csv")
_UNLISTED += ("warped_labels.nii.gz", *(f"warped{ending}" for ending in SUFFIXES))


@contextlib.contextmanager
def output_folder(folder: Path, names: Sequence[str], inputs: Sequence[Path]) -> Iterator[None]:
    """Holds a folder for the results of one registration, as long as the block runs.

    Files of an earlier result are removed when `begin` is called. If the block fails before, they stay as they were,
    and a folder that was made for this registration is removed.

    Args:
      folder: the folder; it is made if it does not exist.
      names: names of all files that the registration may write, without scores.json.
      inputs: files that it reads.

    Raises:
      UserError: one line that names the folder or the file: the folder cannot be made or written; another registration
        is using it; or a file that is not of an earlier registration would be replaced.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"--output_dir={folder}: cannot be made ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the folder itself; it ends with the process
        except OSError as error:
            message = f"--output_dir={folder}: another registration is writing into it; wait, or choose another folder"
            raise UserError(message) from error
        own = _own_files(folder)
        _check(folder, own, [*names, SCORES], inputs)
        try:
            replace_text(folder / _INCOMPLETE, json.dumps(sorted({*own, *names})))
        except OSError as error:
            raise UserError(f"--output_dir={folder}: cannot be written ({error.strerror})") from error
        try:
            yield
        finally:
            if (folder / SCORES).exists() or not any((folder / name).exists() for name in (*own, *names)):
                (folder / _INCOMPLETE).unlink(missing_ok=True)
            if new and not any(folder.iterdir()):
                folder.rmdir()
    finally:
        os.close(handle)


def begin(folder: Path) -> None:
    """Removes the files of an earlier result; scores.json goes first, so that the folder counts as incomplete."""
    own = _own_files(folder)
    (folder / SCORES).unlink(missing_ok=True)
    for name in own:
        (folder / name).unlink(missing_ok=True)


def _own_files(folder: Path) -> list[str]:
    """Names of the files that earlier registrations wrote into a folder."""
    listed = []
    for name in (SCORES, _INCOMPLETE):
        try:
            content = read_json(folder / name)
        except (OSError, ValueError):
            continue
        if name == _INCOMPLETE:
            listed += content if isinstance(content, list) else []
        elif isinstance(content, dict) and str(content.get("version", "")).startswith("air_jax"):
            files = content.get("files", _UNLISTED)
            listed += [SCORES, *(files if isinstance(files, (list, tuple)) else ())]
    return [name for name in listed if isinstance(name, str) and name == Path(name).name]


def _check(folder: Path, own: Sequence[str], names: Sequence[str], inputs: Sequence[Path]) -> None:
    read = {real_path(path) for path in inputs}
    for name in {*own, *names}:
        if real_path(folder / name) in read:
            raise UserError(f"--output_dir={folder}: its {name} is read by this command; choose another folder")
    for name in names:
        path = folder / name
        if name not in own and (path.exists() or path.is_symlink()):
            raise UserError(f"{path}: is not of an earlier registration and would be replaced; choose another folder")
