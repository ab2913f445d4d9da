"""The summary of many pairs: a table with one row a pair, and pages of pictures."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.grids import cut
from air_jax.file_registration.outputs import Maps
from air_jax.file_registration.pair import Pair
from air_jax.runtime.files import read_bytes, replace_text, replacing
from air_jax.transforms.spaces import sample_moving

TABLE = "summary.csv"
FIRST = ("output", "status", "fixed", "moving")
SCORES = ("ncc_overlap", "mse_overlap", "dice", "hd95_mm", "hd95_pixels", "tre_mean_mm", "tre_mean_pixels")
AFTER = ("folding_percent", "coverage")
LAST = ("doubts", "seconds", "message")
PAIRS_A_PAGE = 24
THUMBNAIL = 160  # pixels along a side, at most


class Row(NamedTuple):
    """One pair of the summary.

    Attributes:
      fixed, moving: the files.
      status: "done", "failed" or "open".
      scores: the content of `scores.json`.
      message: why it failed.
    """

    fixed: Path
    moving: Path
    status: str = "open"
    scores: Mapping[str, Any] = {}
    message: str = ""


def check_summary(folder: Path) -> None:
    """Checks that the summary replaces no file of the user's.

    Raises:
      UserError: a `summary.csv` or `summary.png` in the folder is not of an earlier batch.
    """
    path = folder / TABLE
    start = ",".join(FIRST)
    try:
        own = path.exists() and read_bytes(path).decode(errors="replace").startswith(start)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    taken = [name for name in (TABLE, "summary.png") if (folder / name).exists() and not own]
    if taken:
        raise UserError(f"{folder / taken[0]}: is not of an earlier batch and would be replaced; name another folder")


def write_table(rows: Mapping[str, Row], folder: Path) -> None:
    """Writes `summary.csv`: one row a pair, numbers as in `scores.json`, empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [f"{name}_{side}" for name in SCORES for side in ("before", "after")]
    writer.writerow([*FIRST, *scores, *AFTER, *LAST])
    for name, row in rows.items():
        sides = [row.scores.get(side, {}) for side in ("before", "after")]
        values = [side.get(score) for score in SCORES for side in sides]
        values += [sides[1].get(score) for score in AFTER]
        last = ["; ".join(row.scores.get("doubts", [])), row.scores.get("seconds", {}).get("all"), row.message]
        writer.writerow([name, row.status, row.fixed, row.moving, *values, *last])
    replace_text(folder / TABLE, text.getvalue())


def thumbnails(pair: Pair, maps: Maps) -> list[np.ndarray]:
    """Returns a plane through the middle of the fixed, the moving and the warped image, `[H, W]` each in [0, 1]."""
    inputs = pair.inputs
    images = [inputs.fixed_image[0]]
    images += [
        sample_moving(inputs.moving_image[0], field, inputs.voxel_to_voxel)
        for field in (np.zeros(maps.whole.shape, np.float32), maps.whole)
    ]
    planes = []
    for image in images:
        array = cut(image, inputs.fixed.volume.shape)[..., 0]
        plane = array if array.ndim == 2 else array[:, :, array.shape[2] // 2]
        plane = plane if inputs.are_pictures else plane.T[::-1]
        step = -(-max(plane.shape) // THUMBNAIL)
        planes.append(np.ascontiguousarray(plane[::step, ::step]).clip(0, 1))
    return planes


def draw_pages(pictures: Mapping[str, Sequence[np.ndarray]], folder: Path) -> None:
    """Draws `summary.png` and, for more than 24 pairs, `summary_2.png` and so on.

    Args:
      pictures: `thumbnails` by name of the pair.
      folder: of the batch.
    """
    from air_jax.visualize.pairs import pairs_figure  # imports matplotlib, which takes half a second

    for number, page in enumerate(_pages(list(pictures.items())), start=1):
        figure = pairs_figure(page)
        with replacing(folder / ("summary.png" if number == 1 else f"summary_{number}.png")) as file:
            figure.savefig(file, format="png", dpi=100)


def _pages(pictures: list) -> Iterator[list]:
    for start in range(0, len(pictures), PAIRS_A_PAGE):
        yield pictures[start : start + PAIRS_A_PAGE]
