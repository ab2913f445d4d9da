"""Checksums of a checkpoint's parts, and the config whose weights it holds."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from air_jax.errors import UserError
from air_jax.runtime.files import read_json


def check_part(folder: Path, name: str, computed: Callable[[], str]) -> None:
    """Compares a part of a checkpoint with its checksum, which those of earlier versions do not have."""
    checksums = _read_checksums(folder)
    if checksums and checksums[name] != computed():
        raise ValueError(f"the checksum of {name} differs")


def check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Raises `UserError` where a checkpoint is of a run with another config."""
    there = _read_checksums(folder).get("identity", {})
    # Keys that only one of two versions has say nothing.
    others = sorted(key for key in there.keys() & identity.keys() if there[key] != identity[key])
    if others:
        differences = ", ".join(f"{key} ({there[key]!r} there, {identity[key]!r} now)" for key in others)
        raise UserError(
            f"{folder}: is of a run with another config: {differences}; restore config.json from a copy, or choose "
            "another --workdir"
        )


def checksum(tree: Any) -> str:
    """A checksum of the arrays of a tree: of their paths, types, shapes and bytes."""
    digest = hashlib.sha256()
    leaves = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    for path in sorted(leaves):
        leaf = leaves[path]
        digest.update(f"{path} {leaf.dtype} {leaf.shape};".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def scores_checksum(scores: dict[str, float]) -> str:
    """A checksum of the scores."""
    return hashlib.sha256(json.dumps(scores, sort_keys=True).encode()).hexdigest()


def _read_checksums(folder: Path) -> dict[str, Any]:
    path = folder / "checksums" / "metadata"
    return read_json(path) if path.parent.exists() else {}
