"""The training loop: steps in dispatches, with validation and checkpoints."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from air_jax.errors import StoppedError, UserError
from air_jax.runtime.processes import from_first_process, say
from air_jax.runtime.signals import StopRequest, stop_requests
from air_jax.runtime.startup import StartUp
from air_jax.training.monitor import Monitor
from air_jax.training.recipe import StepPlan
from air_jax.training.steps import TrainState
from air_jax.workdir.checkpoint import Checkpoints, checkpoint_steps

Dispatch = tuple[int, int]  # first step, number of steps


def dispatches(step: int, plan: StepPlan) -> list[Dispatch]:
    """First step and number of steps of each dispatch from `step` on; they end at multiples of `log_every`."""
    spans = []
    while step < plan.num_train_steps:
        num_steps = min(plan.log_every - step % plan.log_every, plan.num_train_steps - step)
        spans.append((step, num_steps))
        step += num_steps
    return spans


def train_loop(
    state: TrainState,
    run: Callable[[TrainState, int], tuple[TrainState, dict[str, jax.Array]]],
    spans: Sequence[Dispatch],
    validate: Callable[[Any], dict[str, float]],
    learning_rate: Callable[[int], Any],
    checkpoints: Checkpoints | None,
    monitor: Monitor,
    plan: StepPlan,
    workdir: Path,
    start: StartUp,
) -> None:
    """Takes steps in dispatches; validates and saves every `eval_every` steps and at the end.

    A run of 0 steps validates and saves its initial state. Every process validates, so that none waits for another;
    those without `checkpoints` write nothing.

    Args:
      state: the state to go on from, on the devices.
      run: `run(state, num_steps)` takes steps, see `air_jax.training.feed`.
      spans: see `dispatches`.
      validate: scores of parameters on the validation part, by name.
      learning_rate: rate of a step, by the number of steps before it.
      checkpoints: where to save; None in processes other than the first.
      monitor: shows and logs.
      plan: steps of the run.
      workdir: folder of the run.
      start: reports the start-up after the first dispatch.

    Raises:
      UserError: the loss or its gradient stopped being finite.
      StoppedError: a signal asked the run to stop; the state is saved.
    """

    def validate_and_save(step: int, state: TrainState) -> None:
        scores = validate(state.params)
        monitor.validation(step, scores, state.params)
        if checkpoints is not None:
            checkpoints.save(step, state.params, state.opt_state, scores)

    saved_step = int(state.step)
    speed = _Speed(plan)
    with stop_requests() as request, monitor.running(saved_step):
        if plan.num_train_steps == 0 and not (checkpoints is not None and checkpoint_steps(checkpoints.directory)):
            validate_and_save(0, state)
        for step, num_steps in spans:
            begun = time.perf_counter()
            with start.item("first steps"):
                state, step_metrics = run(state, num_steps)
                # Fetching blocks, which also keeps several virtual CPU devices from a deadlock (jax <= 0.11.2).
                step_metrics = jax.tree.map(np.asarray, step_metrics)
            seconds = time.perf_counter() - begun
            _check_finite(step_metrics, step, saved_step, workdir)
            step += num_steps

            if not speed.has_compiled:
                say(start.line())
            line = {"step": step, **{name: float(values.mean()) for name, values in step_metrics.items()}}
            line |= {"learning_rate": float(learning_rate(step - 1)), **speed.of(num_steps, seconds)}
            monitor.steps(line, speed.seconds_left(step))

            if step % plan.eval_every == 0 or step == plan.num_train_steps:
                validate_and_save(step, state)
                saved_step = step
            if step < plan.num_train_steps and _is_asked_to_stop(request):
                if checkpoints is not None and saved_step != step:
                    checkpoints.save(step, state.params, state.opt_state, None)  # validation would take its time
                    checkpoints.wait()
                name = request.name or "the first process stopped"
                raise StoppedError(f"{name}: step {step:,} is saved in {workdir}; the same command goes on")


def _is_asked_to_stop(request: StopRequest) -> bool:
    """Whether the first process has got a signal: all processes stop after the same step."""
    return bool(from_first_process(lambda: np.int32(bool(request.name)), like=np.int32(0)))


class _Speed:
    """Pairs per second, and the time left. The first dispatch of each length compiles, so it does not count."""

    def __init__(self, plan: StepPlan):
        self._plan = plan
        self._lengths: set[int] = set()
        self._steps, self._seconds = 0, 0.0

    @property
    def has_compiled(self) -> bool:
        return bool(self._lengths)

    def of(self, num_steps: int, seconds: float) -> dict[str, float]:
        """The entries of a line of the log, for a dispatch."""
        entries = {"pairs_per_second": num_steps * self._plan.batch_size / seconds}
        if num_steps in self._lengths:
            self._steps += num_steps
            self._seconds += seconds
        else:
            self._lengths.add(num_steps)
            entries["seconds_to_compile_and_run"] = seconds
        return entries

    def seconds_left(self, step: int) -> float:
        """NaN before the first dispatch that counts."""
        return (self._plan.num_train_steps - step) * self._seconds / self._steps if self._steps else math.nan


def _check_finite(step_metrics: dict[str, np.ndarray], step: int, saved_step: int, workdir: Path) -> None:
    # The gradient as well: a bad one spoils the parameters one step before it shows in the loss.
    finite = np.isfinite(step_metrics["loss"]) & np.isfinite(step_metrics["grad_norm"])
    if finite.all():
        return
    bad_step = step + int(np.flatnonzero(~finite)[0]) + 1
    left = (
        f"the checkpoint of step {saved_step} in {workdir} is whole" if saved_step else "no checkpoint had been written"
    )
    raise UserError(
        f"loss or gradient is not finite at step {bad_step}, so the run stops; {left}; "
        "try a lower --config.learning_rate"
    )
