"""The state of the rounds in a file, from which an interrupted command goes on."""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np

from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.file_registration.folder import SCORES
from air_jax.file_templates.group import Group
from air_jax.file_templates.options import Options
from air_jax.file_templates.rounds import State
from air_jax.runtime.files import read_bytes, read_json, replacing

STATE = ".rounds.npz"  # in the output folder, as long as the rounds run
_ARRAYS = ("affines", "fields", "templates", "coverage")


def task_of(options: Options, group: Group) -> str:
    """Returns a digest of all that determines the template: images, segmentations, settings and version."""
    settings = {name: str(value) for name, value in dataclasses.asdict(options).items()}
    for name in ("images", "output_dir", "labels", "reference"):
        del settings[name]  # their content counts, not their place
    digest = hashlib.sha256(json.dumps([__version__, settings, group.names]).encode())
    arrays = [group.images, group.weights, group.starts, group.grid.affine, np.array(group.grid.shape)]
    for subject in group.subjects:
        arrays += [subject.volume.affine] + ([] if subject.segmentation is None else [subject.segmentation])
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save(folder: Path, task: str, state: State) -> None:
    """Writes the state into a folder; a killed process leaves the old file or the new one."""
    with replacing(folder / STATE) as file:
        arrays = {name: getattr(state, name) for name in _ARRAYS}
        np.savez(file, task=task, history=json.dumps(state.history), **arrays)


def load(folder: Path, task: str) -> State | None:
    """Reads the state from a folder; None where there is none, or that of another task, which is said."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as stored:
            if str(stored["task"]) == task:
                return State(**{name: stored[name] for name in _ARRAYS}, history=json.loads(str(stored["history"])))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        print(f"{path}: is damaged; starting again", flush=True)
        return None
    print(f"{path}: is of other images or other options; starting again", flush=True)
    return None


def finished(folder: Path, task: str) -> dict | None:
    """Returns the content of `scores.json` of a folder with the finished template of a task; None without one.

    A folder from which results were removed is not finished.

    Raises:
      UserError: the folder has the finished template of another task.
    """
    try:
        scores = read_json(folder / SCORES)
    except (OSError, ValueError):
        return None
    if not isinstance(scores, dict) or "task" not in scores:
        return None
    if scores["task"] != task:
        raise UserError(
            f"--output_dir={folder}: has the finished template of other images or options; choose another folder"
        )
    files = scores.get("files")
    whole = isinstance(files, list) and all(os.path.exists(folder / str(name)) for name in files)
    return scores if whole else None
