"""Drawing of one panel, fusion of two images into one, and text that comes from users."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage

from air_jax.checks import check_arrays, check_flag, check_spacing, check_text, require

MAX_PIXELS = 512  # along a side of a panel; no page shows more

# Options of a text with names of files or data sets: a `$` in a name is no formula.
PLAIN_TEXT: dict[str, Any] = {"parse_math": False, "usetex": False}


def printable(text: str) -> str:
    r"""Returns text that can be drawn: bytes of a file name that are not UTF-8 become escapes, as in `\udcff`.

    Args:
      text: any text.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def draw_lines(axis: Axes, lines: Iterable[np.ndarray]) -> None:
    """Draws the lines of a deformed grid.

    Args:
      axis: panel.
      lines: points (x, y) of each line, `[K, 2]`.
    """
    axis.add_collection(LineCollection(list(lines), colors="#4fc3f7", linewidths=0.4))


def draw_plane(
    axis: Axes, plane: np.ndarray, origin: Literal["upper", "lower"], *, start: int = 0, **options: Any
) -> AxesImage:
    """Draws a plane so that its voxel `(y, x)` lies at `(x + start, y + start)`.

    Args:
      axis: panel.
      plane: `[H, W]` or `[H, W, 3]`; reduced to at most `MAX_PIXELS` along a side.
      origin: "upper" for rows that run down the page, "lower" for rows that run up.
      start: coordinate of the first voxel. Default: 0.
      **options: passed to `Axes.imshow`.

    Returns:
      The drawn image.
    """
    small, steps = shrink(plane, np.mean)
    bottom, right = start - 0.5 + np.multiply(steps, small.shape[:2])
    left = top = start - 0.5
    extent = (left, right, top, bottom) if origin == "lower" else (left, right, bottom, top)
    return axis.imshow(small, extent=extent, origin=origin, **options)


def shrink(plane: np.ndarray, reduce: Callable[..., np.ndarray]) -> tuple[np.ndarray, tuple[int, int]]:
    """Reduces a plane block by block to at most `MAX_PIXELS` along a side.

    Args:
      plane: `[H, W, ...]`. Its last row and column are repeated to fill the last blocks.
      reduce: `reduce(blocks, axis=(1, 3))`, such as `np.mean`.

    Returns:
      The reduced plane `[H', W', ...]`, and the height and width of a block.
    """
    height, width = (-(-size // MAX_PIXELS) for size in plane.shape[:2])
    if height == width == 1:
        return plane, (1, 1)
    margins = [(0, -plane.shape[0] % height), (0, -plane.shape[1] % width), *[(0, 0)] * (plane.ndim - 2)]
    padded = np.pad(plane, margins, mode="edge")
    rows, columns = padded.shape[0] // height, padded.shape[1] // width
    return reduce(padded.reshape(rows, height, columns, width, *plane.shape[2:]), axis=(1, 3)), (height, width)


def grey(plane: np.ndarray) -> np.ndarray:
    """Averages the colours of a plane.

    Args:
      plane: `[H, W]` or `[H, W, 3]`.

    Returns:
      `[H, W]`.
    """
    return plane.mean(axis=-1) if plane.ndim == 3 else plane


def fusion(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shows two planes as one: the first magenta, the second green, grey where they agree.

    Args:
      first, second: `[H, W]` or `[H, W, 3]`.

    Returns:
      `[H, W, 3]`.
    """
    return np.stack([grey(first), grey(second), grey(first)], axis=-1)


def checkerboard(
    first: np.ndarray, second: np.ndarray, spacing: Sequence[float] | np.ndarray, *, num_squares: int = 8
) -> np.ndarray:
    """Shows two planes as alternating squares.

    Args:
      first, second: `[H, W]` or `[H, W, 3]`.
      spacing: mm per voxel along the two axes; squares have equal sides in mm.
      num_squares: number of squares along the longer side. Default: 8.

    Returns:
      The shape of `first`; its first square is of `first`.
    """
    sides = np.asarray(spacing, dtype=float)
    shape = np.array(first.shape[:2])
    cells = np.maximum(1, np.rint((shape * sides).max() / num_squares / sides)).astype(int)
    rows, columns = (np.arange(size) // cell for size, cell in zip(shape, cells, strict=True))
    is_first = (rows[:, None] + columns) % 2 == 0
    return np.where(is_first[..., None] if first.ndim == 3 else is_first, first, second)


def check_report(
    function: str,
    images: Mapping[str, np.ndarray],
    spacing: Any,
    title: Any,
    is_picture: Any,
    affine: Any,
    scores: Any,
) -> None:
    """Checks the arguments that a report's figure and its page share.

    Args:
      function: name of the calling function, for the message.
      images: arrays `[*S]` or `[*S, C]` by name.
      spacing, title, is_picture, affine, scores: see `air_jax.visualize.report_figure`.

    Raises:
      OptionError, TypeError, ValueError: one of them is of another type, or has another shape.
    """
    check_spacing("spacing", spacing)
    num_axes = len(spacing)
    for name, image in images.items():
        if image.ndim not in (num_axes, num_axes + 1) or not image.size:
            raise ValueError(f"{function}: {name} has shape {image.shape}; with {num_axes} axes give [*S] or [*S, C]")
    check_text(title=title)
    check_flag("is_picture", is_picture)
    if affine is not None:
        check_arrays(function, "fiu", affine=affine)
    known = isinstance(scores, Mapping) and all(isinstance(each, Mapping) for each in scores.values())
    require(known, "scores", scores, "must be a mapping of names to values, one for each time")
