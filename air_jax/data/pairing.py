"""Pairing of a source's images: any two, an atlas with all others, two frames of a subject, or a list of pairs."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from air_jax.data.dataset import PARTS, Images
from air_jax.data.source import Source
from air_jax.errors import UserError

# Values of the config's `dataset.pairs` besides the path of a list.
PAIRINGS = ("all", "atlas", "frames")


def pair_up(source: Source, pairs: str, *, atlas: str | None = None) -> tuple[Images, np.ndarray | None]:
    """Pairs a source's images as the config's `dataset.pairs` says.

    Args:
      source: all images.
      pairs: "all": any image with any other. "atlas": the atlas is fixed, each other image is moving. "frames": the
        pairs of the source. Any other value is the path of a list, see `read_list`.
      atlas: name of the atlas, only with `pairs="atlas"`. Default: the first image.

    Returns:
      The images with their `pairs`; and the part of each pair `[k]`, or None. The part is that of the list, or with an
      atlas that of the moving image.

    Raises:
      UserError: the list or a name is wrong.
    """
    images = source.images
    if atlas is not None and pairs != "atlas":
        raise UserError(f"dataset.atlas={atlas!r}: needs dataset.pairs='atlas', not {pairs!r}")
    if pairs == "frames" and images.pairs is None:
        raise UserError("dataset.pairs='frames' needs a stack of frames (.npz); give a list of pairs instead")
    if pairs in ("all", "frames"):
        return images, None
    if pairs == "atlas":
        fixed = 0 if atlas is None else _index_of(source, atlas, "dataset.atlas")
        moving = np.delete(np.arange(len(images)), fixed)
        listed = np.stack([np.full(len(moving), fixed), moving], axis=1)
        return dataclasses.replace(images, pairs=listed), None if source.parts is None else source.parts[moving]
    names, parts = read_list(Path(pairs).expanduser())
    listed = np.array([[_index_of(source, name, pairs) for name in pair] for pair in names])
    return dataclasses.replace(images, pairs=listed), parts


def read_list(path: Path) -> tuple[list[tuple[str, str]], np.ndarray | None]:
    """Reads a list of pairs: a CSV file with the columns `fixed`, `moving` and, optionally, `split`.

    Args:
      path: path of the file, UTF-8; its first line names the columns.

    Returns:
      The names of the fixed and the moving image of each pair; and the part of each pair, `train`, `validation` or
      `test`, or None without `split`.

    Raises:
      UserError: the file cannot be read, or a line is wrong; the message names the file and the line.
    """
    if path.exists() and not path.is_file():  # reading a pipe may never end
        raise UserError(f"{path}: is no file; give {', '.join(PAIRINGS)} or the path of a list")
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
        raise UserError(f"{path}: must begin with a line 'fixed,moving' or 'fixed,moving,split', followed by pairs")
    for line, row in enumerate(rows, start=2):
        if not (row["fixed"] and row["moving"]) or row["fixed"] == row["moving"]:
            raise UserError(f"{path}, line {line}: must name two images")
        if "split" in row and row["split"] not in PARTS:
            raise UserError(f"{path}, line {line}: split is {row['split']!r}; it must be {', '.join(PARTS)}")
    parts = np.array([row["split"] for row in rows]) if "split" in rows[0] else None
    return [(row["fixed"], row["moving"]) for row in rows], parts


def _index_of(source: Source, name: str, given_by: str) -> int:
    """Returns the index of the image of this name; `given_by` is the option or file that names it."""
    if source.names is None:
        raise UserError(f"{given_by}: names {name!r}, but the images have no names; give the stack `ids`")
    found = np.flatnonzero(source.names == name)
    if len(found) != 1:
        raise UserError(
            f"{given_by}: names {name!r}, which {len(found) or 'no'} images have; "
            "the name of a file is given without its ending"
        )
    return int(found[0])
