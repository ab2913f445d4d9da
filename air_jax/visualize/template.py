"""The figure of a template: its planes by round, and its sharpness."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from air_jax.checks import check_arrays, check_flag, check_text, is_number, is_sequence, require
from air_jax.visualize.anatomy import body_axes
from air_jax.visualize.panels import PLAIN_TEXT, draw_plane, printable
from air_jax.visualize.planes import anatomical_planes, middle, planes_through

MOST_COLUMNS = 7


def template_figure(
    templates: np.ndarray,
    affine: np.ndarray,
    names: Sequence[str],
    sharpness: Sequence[float],
    *,
    title: str,
    is_picture: bool = False,
) -> Figure:
    """Draws the template after each round: volumes in three planes as radiologists look at them.

    Args:
      templates: `[r, *S]` in [0, 1]; the first is the mean before any round.
      affine: `[N+1, N+1]`, array indices to physical space.
      names: of the r rounds.
      sharpness: of the r templates.
      title: title of the figure, any text.
      is_picture: whether the first axis runs down the page, as rows do.

    Returns:
      The figure. Of more than 7 rounds it shows some, the first and the last among them.

    Examples:
      >>> figure = air_jax.visualize.template_figure(
      ...     np.zeros((2, 8, 8)), np.eye(3), ("start", "round 1"), (0.5, 0.6), title="a template", is_picture=True
      ... )
      >>> len(figure.axes)
      3
    """
    check_arrays("template_figure", "fiub", templates=templates)
    check_arrays("template_figure", "fiu", affine=affine)
    for name, values in (("names", names), ("sharpness", sharpness)):
        require(is_sequence(values) and len(values) == len(templates), name, values, "must have one entry a template")
    require(all(map(is_number, sharpness)), "sharpness", sharpness, "must be finite numbers")
    require(all(isinstance(name, str) for name in names), "names", names, "must be texts")
    check_text(title=title)
    check_flag("is_picture", is_picture)
    shown = np.unique(np.linspace(0, len(templates) - 1, min(len(templates), MOST_COLUMNS)).round().astype(int))
    images, spacing = [templates[index] for index in shown], np.linalg.norm(affine[:-1, :-1], axis=0)
    if templates.ndim == 4:
        body = body_axes(affine)
        images, spacing = [body.turn(image) for image in images], spacing[list(body.order)]
        planes = anatomical_planes(middle(images[-1], images[-1].shape))
    else:
        planes = planes_through(middle(images[-1], images[-1].shape), is_picture=is_picture)
    sides = [np.array(images[0].shape) * spacing for _ in planes]
    heights = [side[plane.vertical] / side[plane.horizontal] for side, plane in zip(sides, planes, strict=True)]
    column = 1.8 if len(planes) > 1 else 2.4
    figure = Figure(figsize=(column * len(shown), column * sum(heights) + 3.0), layout="constrained")
    layout = figure.add_gridspec(len(planes) + 1, len(shown), height_ratios=[*heights, 1.6 / column])
    for position, (index, image) in enumerate(zip(shown, images, strict=True)):
        for row, plane in enumerate(planes):
            axis = figure.add_subplot(layout[row, position])
            aspect = spacing[plane.vertical] / spacing[plane.horizontal]
            draw_plane(axis, plane.cut(image), plane.origin, cmap="gray", vmin=0, vmax=1, aspect=aspect)
            axis.set_axis_off()
            if row == 0:
                axis.set_title(f"{index}: {names[index]}", fontsize=9)
    curve = figure.add_subplot(layout[-1, :])
    curve.plot(range(len(sharpness)), sharpness, marker="o", markersize=3, color="#444444", linewidth=1.2)
    curve.set_xticks(range(len(sharpness)))
    curve.set_xlabel("round", fontsize=9)
    curve.set_ylabel("sharpness", fontsize=9)
    curve.tick_params(labelsize=8)
    curve.grid(alpha=0.3, linewidth=0.5)
    figure.suptitle(printable(title), fontsize=10, **PLAIN_TEXT)
    return figure
