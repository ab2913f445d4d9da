"""Checkpoints of a run: the only file that knows how they are stored."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from air_jax.errors import UserError

T = TypeVar("T")
BEST_METRIC = "dice"
_policies = ocp.checkpoint_managers


class Checkpoints:
    """The newest `keep` checkpoints of a run and its best one, by validation Dice.

    A checkpoint holds the parameters and the optimiser's state, both as host arrays, so it can be restored on any number
    of devices. Saving is asynchronous. A checkpoint counts as written only once its commit file stands in it, so neither
    a killed run nor a half-copied folder leaves one that looks whole.
    """

    def __init__(self, directory: Path, *, keep: int = 2, read_only: bool = False):
        """Opens (and, unless `read_only`, creates) the folder of checkpoints."""
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every save in a dozen lines
        self.directory = Path(directory).absolute()
        if read_only and not self.directory.is_dir():
            raise UserError(f"{self.directory}: no checkpoints here; is it the workdir of a run?")
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                best_fn=_best_metric,
                best_mode="max",
                # max_to_keep together with best_fn would delete the newest checkpoint when it is not among the best.
                preservation_policy=_policies.AnyPreservationPolicy(
                    [
                        _policies.LatestN(keep),
                        _policies.BestN(get_metric_fn=_best_metric, n=1, keep_checkpoints_without_metrics=False),
                    ]
                ),
                atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE),
                read_only=read_only,
            ),
        )

    def save(self, step: int, params: Any, opt_state: Any, scores: dict[str, float]) -> None:
        """Saves in the background; `scores` must hold the validation `dice`."""
        # Copies: the caller's next step reuses the device buffers, which on CPU are the very memory to be written.
        params, opt_state = jax.tree.map(np.array, (params, opt_state))
        self._manager.save(
            step,
            args=ocp.args.Composite(params=ocp.args.StandardSave(params), opt_state=ocp.args.StandardSave(opt_state)),
            metrics={name: float(score) for name, score in scores.items()},
            force=True,
        )

    def restore_newest(self, params: Any, opt_state: Any) -> tuple[int, Any, Any] | None:
        """Restores the newest checkpoint that can be read, shaped like the arguments; None when there is none.

        A newer one that is damaged is reported and moved to `damaged/` beside the checkpoints.
        """
        target = ocp.args.Composite(
            params=ocp.args.StandardRestore(jax.tree.map(np.asarray, params)),
            opt_state=ocp.args.StandardRestore(jax.tree.map(np.asarray, opt_state)),
        )
        steps = sorted(self._manager.all_steps(read=True), reverse=True)
        step, restored, damaged = self._first_readable(steps, lambda step: self._manager.restore(step, args=target))
        for bad_step in damaged:
            self._set_aside(bad_step)
        if step is None:
            return None
        return step, restored.params, restored.opt_state

    def restore_best_params(self) -> tuple[int, Any]:
        """Restores the parameters of the best checkpoint that can be read, and its step.

        Raises:
          UserError: there is none.
        """
        target = ocp.args.Composite(params=ocp.args.StandardRestore())
        steps = sorted(self._manager.all_steps(read=True), key=self._rank, reverse=True)
        step, restored, _ = self._first_readable(steps, lambda step: self._manager.restore(step, args=target))
        if step is None:
            raise UserError(
                f"{self.directory}: no checkpoint that can be read; train first, or restore the folder from a copy"
            )
        return step, restored.params

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _rank(self, step: int) -> tuple[float, int]:
        try:
            return _best_metric(self._manager.metrics(step)), step
        except Exception:  # damaged metrics: the parameters may still be whole, but come last
            return -1.0, step

    def _first_readable(self, steps: list[int], restore: Callable[[int], T]) -> tuple[int | None, T | None, list[int]]:
        """The first step that `restore` can read, what it read, and the steps that it could not read before."""
        damaged = []
        for step in steps:
            try:
                return step, restore(step), damaged
            except (
                Exception
            ) as error:  # Orbax and TensorStore raise a different type for each way a file can be damaged
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
                print(
                    f"checkpoints: step {step} is damaged and cannot be read ({reason}); trying the one before",
                    flush=True,
                )
                damaged.append(step)
        return None, None, damaged

    def _set_aside(self, step: int) -> None:
        """Moves a damaged checkpoint out of the way, so that its step can be saved again."""
        aside = self.directory.parent / "damaged" / str(step)
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        shutil.move(self.directory / str(step), aside)
        self._manager.reload()
        print(f"checkpoints: moved {self.directory / str(step)} to {aside}", flush=True)


def _best_metric(scores: dict[str, float]) -> float:
    return scores[BEST_METRIC]
