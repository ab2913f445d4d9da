"""Which images make pairs: any two, an atlas and any other, two frames of a subject, or those that a list names."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from air_jax.data.dataset import Dataset, Images
from air_jax.data.source import Source
from air_jax.errors import UserError

# Besides the path of a list.
PAIRINGS = ("all", "atlas", "frames")


def pair_up(source: Source, pairs: str, atlas: str | None) -> tuple[Images, np.ndarray | None]:
    """Pairs a source's images as the config's `dataset.pairs` says.

    Args:
      source: all images.
      pairs: "all": any image to any other. "atlas": every image is moving, and one is the fixed image of all.
        "frames": as the source has them. Otherwise the path of a list, see `read_list`.
      atlas: name of the atlas. Default: the first image.

    Returns:
      The images with their `pairs`; and each pair's part, where the list or, of the moving image, the source says.

    Raises:
      UserError: one line that says what is wrong with the list or the names.
    """
    images = source.images
    if atlas is not None and pairs != "atlas":
        raise UserError(f"dataset.atlas={atlas!r}: needs dataset.pairs='atlas', not {pairs!r}")
    if pairs == "all" or pairs == "frames":
        if pairs == "frames" and images.pairs is None:
            raise UserError("dataset.pairs='frames' needs a stack of frames (.npz); give a list of pairs instead")
        return images, None
    if pairs == "atlas":
        fixed = 0 if atlas is None else _place(source, atlas, "dataset.atlas")
        moving = np.delete(np.arange(len(images)), fixed)
        listed = np.stack([np.full(len(moving), fixed), moving], axis=1)
        return dataclasses.replace(images, pairs=listed), None if source.marks is None else source.marks[moving]
    names, marks = read_list(Path(pairs).expanduser())
    listed = np.array([[_place(source, name, pairs) for name in pair] for pair in names])
    return dataclasses.replace(images, pairs=listed), marks


def read_list(path: Path) -> tuple[list[tuple[str, str]], np.ndarray | None]:
    """Reads a list of pairs: a CSV file with the columns `fixed`, `moving` and, for all or for none, `split`.

    Returns:
      Names of the fixed and the moving images; and `train`, `validation` or `test` of each pair, or None.

    Raises:
      UserError: one line that names the file and what is wrong with it.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError(
            f"dataset.pairs={str(path)!r}: not found; give {', '.join(PAIRINGS)} or the path of a list"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a list of pairs ({error})") from error
    if not rows or not {"fixed", "moving"} <= rows[0].keys():
        raise UserError(f"{path}: must begin with a line 'fixed,moving' or 'fixed,moving,split', and have pairs below")
    for line, row in enumerate(rows, start=2):
        if not (row["fixed"] and row["moving"]) or row["fixed"] == row["moving"]:
            raise UserError(f"{path}, line {line}: must name two images")
        if "split" in row and row["split"] not in Dataset._fields:
            raise UserError(f"{path}, line {line}: split is {row['split']!r}; it must be {', '.join(Dataset._fields)}")
    marks = np.array([row["split"] for row in rows]) if "split" in rows[0] else None
    return [(row["fixed"], row["moving"]) for row in rows], marks


def _place(source: Source, name: str, asked_by: str) -> int:
    if source.ids is None:
        raise UserError(f"{asked_by}: names {name!r}, but the images have no names; give the stack `ids`")
    found = np.flatnonzero(source.ids == name)
    if len(found) != 1:
        raise UserError(
            f"{asked_by}: names {name!r}, which {len(found) or 'no'} images have; "
            "a file's name here is without its ending"
        )
    return int(found[0])
