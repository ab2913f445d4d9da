"""What is drawn into one panel, and how two images become one."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage

MAX_PIXELS = 512  # along a side of a panel: more would only cost time, no page shows them


def draw_lines(axis: Axes, lines: Iterable[np.ndarray]) -> None:
    """Draws the lines of a deformed grid, `[K, 2]` points (x, y) each."""
    axis.add_collection(LineCollection(list(lines), colors="#4fc3f7", linewidths=0.4))


def draw_plane(axis: Axes, plane: np.ndarray, origin: str, start: int = 0, **options) -> AxesImage:
    """Draws `[H, W]` or `[H, W, 3]` such that voxel `(y, x)` of `plane` lies at `(x + start, y + start)`."""
    small, steps = shrink(plane, np.mean)
    bottom, right = start - 0.5 + np.multiply(steps, small.shape[:2])
    left = top = start - 0.5
    extent = (left, right, top, bottom) if origin == "lower" else (left, right, bottom, top)
    return axis.imshow(small, extent=extent, origin=origin, **options)


def shrink(plane: np.ndarray, reduce: Callable) -> tuple[np.ndarray, tuple[int, int]]:
    """Reduces `[H, W, ...]` block by block to at most `MAX_PIXELS` a side, and tells the block's sides."""
    height, width = (-(-size // MAX_PIXELS) for size in plane.shape[:2])
    if height == width == 1:
        return plane, (1, 1)
    margins = [(0, -plane.shape[0] % height), (0, -plane.shape[1] % width), *[(0, 0)] * (plane.ndim - 2)]
    padded = np.pad(plane, margins, mode="edge")
    rows, columns = padded.shape[0] // height, padded.shape[1] // width
    return reduce(padded.reshape(rows, height, columns, width, *plane.shape[2:]), axis=(1, 3)), (height, width)


def grey(plane: np.ndarray) -> np.ndarray:
    """`[H, W]` of a plane with or without colours."""
    return plane.mean(axis=-1) if plane.ndim == 3 else plane


def fusion(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`[H, W, 3]`: the first in magenta, the second in green, so that what agrees is grey."""
    return np.stack([grey(first), grey(second), grey(first)], axis=-1)


def checkerboard(first: np.ndarray, second: np.ndarray, spacing: Sequence[float], num_squares: int = 8) -> np.ndarray:
    """Squares of the two planes in turn, `num_squares` along the longer side; `spacing` is mm along its two axes."""
    shape = np.array(first.shape[:2])
    cells = np.maximum(1, np.rint((shape * spacing).max() / num_squares / spacing)).astype(int)
    rows, columns = (np.arange(size) // cell for size, cell in zip(shape, cells, strict=True))
    is_first = (rows[:, None] + columns) % 2 == 0
    return np.where(is_first[..., None] if first.ndim == 3 else is_first, first, second)
