"""Watching a run in another program: TensorBoard, or one that the user adds in ten lines (docs/training.md).

`WATCHES[config.watch]` makes the watch of a run, in its first process. A config file may add an entry.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from air_jax.errors import UserError
from air_jax.workdir.config import flat


class Watch(Protocol):
    """Receives the log of a run.

    `WATCHES` holds functions, or classes, of `(config, workdir, step)`: every key of the run such as
    `"model.num_heads"` with its value, the run's folder, and the number of steps that were taken before.
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Receives a line of `metrics.jsonl` without its step."""

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Receives a figure of validation pairs, such as "registration" or "attention", about ten times in a run."""

    def finish(self, scores: Mapping[str, float]) -> None:
        """Is called once, at the end: `scores` such as `"after/dice"` are those of `eval.json`'s first list of pairs.

        They are empty where the run stopped earlier.
        """


class TensorBoard:
    """Writes TensorBoard's event files to `tensorboard/` in the run's folder, with tensorboardX.

    Hyperparameters and the final scores are in its folder `final`. A resumed run hides the events after its step.
    """

    def __init__(self, config: Mapping[str, Any], workdir: Path, step: int):
        """Opens the event file; see `Watch` for the arguments."""
        from tensorboardX import SummaryWriter  # an extra of its own

        self._config = config
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a point of each curve; those of a validation share a group."""
        for name, value in values.items():
            group, tag = ("validation", name.removeprefix("validation_")), ("training", name)
            self._writer.add_scalar("/".join(group if name.startswith("validation_") else tag), value, step)

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Writes the figure as an image."""
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self._writer.add_image(name, np.asarray(canvas.buffer_rgba())[..., :3], step, dataformats="HWC")

    def finish(self, scores: Mapping[str, float]) -> None:
        """Writes hyperparameters with the scores, and closes the files."""
        if scores:
            known = {
                key: value if isinstance(value, bool | int | float) else str(value)
                for key, value in self._config.items()
            }
            self._writer.add_hparams(known, {f"final/{name}": value for name, value in scores.items()}, name="final")
        self._writer.close()


NONE = "none"
WATCHES: dict[str, Callable[[Mapping[str, Any], Path, int], Watch]] = {"tensorboard": TensorBoard}


def check(name: str) -> None:
    """Checks that there is a watch of this name, and that its package is installed.

    Raises:
      UserError: there is none.
      ModuleNotFoundError: TensorBoard is asked for without tensorboardX.
    """
    if name not in (NONE, *WATCHES):
        known = ", ".join((NONE, *WATCHES))
        raise UserError(
            f"--config.watch={name!r}: must be one of {known}; a config file adds its own to "
            "air_jax.training.watch.WATCHES, see docs/training.md"
        )
    if name == "tensorboard":
        importlib.import_module("tensorboardX")  # a package that is missing shows before the run, not at its first line


def open_watch(name: str, config: Any, workdir: Path, step: int) -> Watch | None:
    """Makes the watch of a run; None for "none". Arguments as for `Watch`, `config` with its sections."""
    return None if name == NONE else WATCHES[name](flat(config), workdir, step)


def final_scores(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns the scores of the first list of pairs of `eval.json`, as `Watch.finish` takes them."""
    first = next((value for value in report.values() if isinstance(value, Mapping)), {})
    return {f"{stage}/{name}": value for stage, scores in first.items() for name, value in scores.items()}
