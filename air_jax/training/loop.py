"""The training loop: steps in dispatches, with progress, log, validation and checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from air_jax.data import Images
from air_jax.errors import UserError
from air_jax.runtime.parallel import is_first_process, say
from air_jax.runtime.startup import StartUp
from air_jax.training import scoring
from air_jax.training.scoring import Scorer
from air_jax.training.steps import TrainState
from air_jax.workdir import log as run_log
from air_jax.workdir.checkpoint import Checkpoints


def dispatches(step: int, total: int, log_every: int) -> Iterator[tuple[int, int]]:
    """First step and number of steps of each dispatch from `step` to `total`; they end at multiples of `log_every`."""
    while step < total:
        num_steps = min(log_every - step % log_every, total - step)
        yield step, num_steps
        step += num_steps


def train_loop(
    state: TrainState,
    run: Callable[[TrainState, int], tuple[TrainState, dict[str, jax.Array]]],
    scorer: Scorer,
    checkpoints: Checkpoints | None,
    validation: Images,
    config: ConfigDict,
    workdir: Path,
    start: StartUp,
) -> None:
    """Takes steps in dispatches of `log_every`; validates and saves every `eval_every` steps and at the end.

    Every process validates, so that none waits for another; those without `checkpoints` write nothing.

    Args:
      state: the state to go on from, on the devices.
      run: `run(state, num_steps)` takes steps, see `air_jax.training.feed`.
      scorer, validation: what validates, and on which images.
      checkpoints: where to save; None in processes other than the first.
      config, workdir: of the run.
      start: tells after the first dispatch what the start took.

    Raises:
      UserError: the loss or its gradient stopped being finite.
    """
    pairs = next(iter(scoring.pair_lists(validation, config).values()))
    saved_step, total = int(state.step), config.num_train_steps
    steps_timed, busy_seconds, compiled = 0, 0.0, set()
    for step, num_steps in dispatches(saved_step, total, config.log_every):
        begun = time.perf_counter()
        with start.item("first steps"):
            state, step_metrics = run(state, num_steps)
            # Fetching the metrics blocks, which also keeps several virtual CPU devices from a deadlock (jax <= 0.11.2).
            step_metrics = jax.tree.map(np.asarray, step_metrics)
        seconds = time.perf_counter() - begun
        _check_finite(step_metrics, step, saved_step, workdir)
        step += num_steps

        # Terms that steps do not look at are NaN.
        means = {name: float(values.mean()) for name, values in step_metrics.items() if not np.isnan(values).all()}
        line = {"step": step, **means}
        # The first dispatch of each length compiles, so it tells nothing of the speed.
        line["pairs_per_second"] = num_steps * config.batch_size / seconds
        if not compiled:
            say(start.line())
        if num_steps in compiled:
            busy_seconds += seconds
            steps_timed += num_steps
        else:
            line["seconds_to_compile_and_run"] = seconds
            compiled.add(num_steps)
        _log(workdir, line)
        _print_progress(line, total, (total - step) * busy_seconds / steps_timed if steps_timed else math.nan)

        if step % config.eval_every == 0 or step == total:
            scores = scorer.score(state.params, validation, pairs)["after"]
            _log(workdir, {"step": step, **{f"validation_{name}": score for name, score in scores.items()}})
            say(
                f"  validation: Dice {scores['dice']:.4f}, MSE {scores['mse']:.5f}, "
                f"folding {scores['folding_percent']:.2f} %"
            )
            if checkpoints is not None:
                checkpoints.save(step, state.params, state.opt_state, scores)
            saved_step = step


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


def _log(workdir: Path, line: dict[str, Any]) -> None:
    if is_first_process():
        run_log.append(workdir, line)


def _print_progress(line: dict[str, Any], total: int, seconds_left: float) -> None:
    if "seconds_to_compile_and_run" in line:
        speed = f"{line['seconds_to_compile_and_run']:.1f} s with compilation"
    else:
        speed = f"{line['pairs_per_second']:,.0f} pairs/s"
    left = "" if math.isnan(seconds_left) else f"  {int(seconds_left) // 60}:{int(seconds_left) % 60:02d} left"
    say(f"step {line['step']:,}/{total:,}  loss {line['loss']:.5f}  {speed}{left}")
