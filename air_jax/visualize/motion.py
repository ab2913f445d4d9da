"""The figure of a time series' motion."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from air_jax.checks import check_arrays, check_choice, check_entries, check_number, check_text
from air_jax.visualize.panels import PLAIN_TEXT, printable

AXIS_COLORS = {"x": "#1f77b4", "y": "#d95f02", "z": "#3a923a"}


def motion_figure(
    names: Sequence[str],
    parameters: np.ndarray,
    displacement: np.ndarray,
    *,
    unit: str,
    title: str,
    seconds: float | None = None,
) -> Figure:
    """Draws translations, rotations and the framewise displacement over time.

    Args:
      names: of the parameters, `trans_x` and so on, then `rot` or `rot_x` and so on.
      parameters: `[T, P]`, translations in `unit`, rotations in degrees.
      displacement: `[T - 1]`, in `unit`.
      unit: "mm" or "pixels".
      title: title of the figure, any text.
      seconds: time between two frames. Default: the axis counts frames.

    Returns:
      The figure.

    Examples:
      >>> names, parameters = ("trans_x", "trans_y", "rot"), np.zeros((5, 3))
      >>> figure = air_jax.visualize.motion_figure(names, parameters, np.zeros(4), unit="pixels", title="still")
      >>> len(figure.axes)  # translation, rotation, framewise displacement
      3
    """
    check_arrays("motion_figure", "fiu", parameters=parameters, displacement=displacement)
    check_entries("names", names, parameters.shape[-1], lambda name: isinstance(name, str), "texts, one a parameter")
    check_choice("unit", unit, ("mm", "pixels"))
    check_text(title=title)
    if seconds is not None:
        check_number("seconds", seconds, low=0)
    times = np.arange(len(parameters)) * (seconds or 1)
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    for name, values in zip(names, np.transpose(parameters), strict=True):
        axis = axes[0] if name.startswith("trans") else axes[1]
        axis.plot(times, values, label=name, color=AXIS_COLORS.get(name[-1], "#444444"), linewidth=1.2)
    axes[2].plot(times[1:], displacement, color="#444444", linewidth=1.2)
    axes[2].axhline(np.mean(displacement), color="#999999", linewidth=0.8, linestyle="--")
    labels = f"translation ({unit})", "rotation (degrees)", f"framewise\ndisplacement ({unit})"
    for axis, label in zip(axes, labels, strict=True):
        axis.set_ylabel(label, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3, linewidth=0.5)
        axis.margins(x=0.01)
    for axis in axes[:2]:
        axis.legend(fontsize=8, ncols=3, loc="best", frameon=False)
    axes[2].set_ylim(bottom=0)
    axes[2].set_xlabel("seconds" if seconds else "frame", fontsize=9)
    figure.suptitle(printable(title), fontsize=10, **PLAIN_TEXT)
    return figure
