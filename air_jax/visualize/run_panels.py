"""The images of one pair of a training run as panels of a page: small pictures, and lines over them."""

from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from PIL import Image

from air_jax.transforms import corner_jacobian_determinant, identity_grid, jacobian_determinant
from air_jax.visualize import html
from air_jax.visualize.panels import fusion, shrink

MAX_LINES = 32  # of a deformed grid along each axis
FOLD_COLORS = (1.0, 0.69, 0.0), (0.84, 0.15, 0.16)  # of any corner, and of central differences


def registration_panels(
    fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, displacement: np.ndarray
) -> list[dict[str, Any]]:
    """Draws one registered pair.

    Args:
      fixed, moving, warped: `[H, W, C]` in [0, 1], C of 1 or 3.
      displacement: `[H, W, 2]` in pixels.

    Returns:
      Panels as `run_page` takes them.
    """
    before, after = (fusion(_colours(fixed), _colours(image)) for image in (moving, warped))
    return [
        _panel("moving", moving),
        _panel("fixed", fixed),
        _panel("warped", warped),
        _panel("before: fixed magenta, moving green", before),
        _panel("after: fixed magenta, warped green", after),
        _panel("difference (fixed - warped)", _difference(fixed, warped)),
        _panel("deformed grid", 0.5 * moving) | {"lines": _grid_lines(displacement)},
        _panel("folds: red central, orange any corner", _folds(warped, displacement)),
    ]


def segmentation_panels(image: np.ndarray, known: np.ndarray, found: np.ndarray) -> list[dict[str, Any]]:
    """Draws one image with its known and found segmentations.

    Args:
      image: `[H, W, C]` in [0, 1], C of 1 or 3.
      known, found: `[H, W]` integers; 0 is the background.

    Returns:
      Panels as `run_page` takes them.
    """
    ids, colours = np.unique([known, found]), matplotlib.colormaps["tab20"](np.arange(20))[:, :3]
    grey = _colours(image)

    def coloured(segmentation: np.ndarray) -> np.ndarray:
        labels = colours[np.searchsorted(ids, segmentation) % len(colours)]
        return np.where((segmentation != 0)[..., None], 0.4 * grey + 0.6 * labels, grey)

    wrong = np.where((known != found)[..., None], (1.0, 0.2, 0.1), grey)
    shown = {"image": image, "known": coloured(known), "found": coloured(found), "difference": wrong}
    return [_panel(title, array) for title, array in shown.items()]


def _panel(title: str, image: np.ndarray) -> dict[str, Any]:
    height, width = image.shape[:2]
    small, _ = shrink(_colours(image), np.mean)
    pixels = Image.fromarray(np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8))
    return {"title": title, "image": html.data_address(pixels, "PNG"), "width": width, "height": height}


def _colours(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image, (*image.shape[:2], 3)) if image.shape[-1] == 1 else image


def _difference(fixed: np.ndarray, warped: np.ndarray) -> np.ndarray:
    return matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * (fixed - warped).mean(axis=-1))[..., :3]


def _folds(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    field, drawn = jnp.asarray(displacement[None]), np.array(_colours(image), float)
    for function, colour in zip((corner_jacobian_determinant, jacobian_determinant), FOLD_COLORS, strict=True):
        drawn[1:-1, 1:-1][np.asarray(function(field))[0] <= 0] = colour
    return drawn


def _grid_lines(displacement: np.ndarray) -> str:
    """Returns the lines of the identity grid after `p -> p + u(p)` as a path of SVG, a pixel's centre at its index."""
    height, width, _ = displacement.shape
    points = (np.asarray(identity_grid((height, width))) + displacement)[..., ::-1]
    step = -(-max(height, width) // MAX_LINES)
    lines = [*points[::step], *points.swapaxes(0, 1)[::step]]
    return "".join("M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in line) for line in lines)
