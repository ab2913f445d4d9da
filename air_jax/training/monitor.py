"""What a run shows while it trains: a bar or lines on the terminal, `metrics.jsonl`, and a watch."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from air_jax.runtime.processes import is_first_process, say
from air_jax.training import watch as watches
from air_jax.training.recipe import StepPlan
from air_jax.workdir import log

Draw = Callable[[Any, int], dict[str, Figure]]
NUM_DRAWINGS = 10  # of a run, about


class Monitor:
    """Shows and logs steps and validations; a context, at whose end the watch is finished.

    In processes other than the first it does nothing.

    Args:
      workdir: folder of the run.
      plan: steps of the run.
      open_watch: `open_watch(step)` makes the watch of a run that goes on from `step`; None for none.
      draw: `draw(params, step)` draws figures by name, for the watch.
    """

    def __init__(self, workdir: Path, plan: StepPlan, open_watch: Callable[[int], watches.Watch | None], draw: Draw):
        self._workdir, self._plan, self._open_watch, self._draw = workdir, plan, open_watch, draw
        self._watch: watches.Watch | None = None
        self._scores: dict[str, float] = {}
        self._show: Callable[[int, str], None] | None = None

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.finish(self._scores)

    @contextlib.contextmanager
    def running(self, step: int) -> Iterator[None]:
        """Opens the watch; as long as the block runs, shows a progress bar where the output is a terminal.

        Args:
          step: number of steps taken before.
        """
        if not is_first_process():
            yield
            return
        self._watch = self._open_watch(step)
        with self._bar(step):
            yield

    def final(self, report: Mapping[str, Any]) -> None:
        """Keeps the scores of `eval.json` for the watch."""
        self._scores = watches.final_scores(report)

    @contextlib.contextmanager
    def _bar(self, step: int) -> Iterator[None]:
        if not sys.stdout.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console()
        if console.is_dumb_terminal:  # which cannot move its cursor
            yield
            return
        columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("step {task.completed:,}/{task.total:,}")
        with Progress(*columns, BarColumn(24), TextColumn("{task.fields[status]}"), console=console) as progress:
            task = progress.add_task("", total=self._plan.num_train_steps, completed=step, status="compiling")
            self._show = lambda done, status: progress.update(task, completed=done, status=status, refresh=True)
            try:
                yield
            finally:
                self._show = None

    def steps(self, line: Mapping[str, float], seconds_left: float) -> None:
        """Shows and logs the steps of a dispatch.

        Args:
          line: the line of the log, with its `step`.
          seconds_left: NaN where it is not known.
        """
        self._log(line)
        if "seconds_to_compile_and_run" in line:
            speed = f"{line['seconds_to_compile_and_run']:.1f} s with compilation"
        else:
            speed = f"{line['pairs_per_second']:,.0f} pairs/s"
        left = "" if math.isnan(seconds_left) else f"  {int(seconds_left) // 60}:{int(seconds_left) % 60:02d} left"
        status = f"loss {line['loss']:.5f}  {speed}{left}"
        if self._show is not None:
            self._show(int(line["step"]), status)
        else:
            say(f"step {line['step']:,}/{self._plan.num_train_steps:,}  {status}")

    def validation(self, step: int, scores: Mapping[str, float], params: Any) -> None:
        """Shows and logs the scores of a validation; draws for the watch at about ten of them, the last included.

        Args:
          step: number of steps taken.
          scores: by name.
          params: the model's parameters.
        """
        self._log({"step": step, **{f"validation_{name}": score for name, score in scores.items()}})
        say(f"  validation: {_summary(scores)}")
        if self._watch is None:
            return
        interval = max(self._plan.eval_every, self._plan.num_train_steps / NUM_DRAWINGS)
        is_due = step // interval > (step - self._plan.eval_every) // interval
        if is_due or step == self._plan.num_train_steps:
            for name, figure in self._draw(params, step).items():
                self._watch.figure(step, name, figure)

    def _log(self, line: Mapping[str, float]) -> None:
        if not is_first_process():
            return
        log.append(self._workdir, dict(line))
        if self._watch is not None:
            self._watch.scalars(int(line["step"]), {name: value for name, value in line.items() if name != "step"})


def _summary(scores: Mapping[str, float]) -> str:
    names = {"dice": "Dice {:.4f}", "mse": "MSE {:.5f}", "folding_percent": "folding {:.2f} %"}
    return ", ".join(text.format(scores[name]) for name, text in names.items() if name in scores)
