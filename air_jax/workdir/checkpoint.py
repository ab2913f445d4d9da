"""Checkpoints of a run; the only file that knows their storage format.

A checkpoint is a folder named by its step. It holds the parameters, the optimizer's state, the validation scores, and
checksums of all three.
The arrays are host arrays, so that any number of devices can restore them. The commit file is written last: a folder
without it was left by a killed run, or by a copy that was cut short.
"""

import contextlib
import io
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from air_jax.errors import UserError, first_line
from air_jax.runtime.files import read_json
from air_jax.workdir.checksums import check_identity, check_part, checksum, scores_checksum

BEST_SCORE = "dice"
_COMMIT_FILE = "commit_success.txt"
_EMPTY = "no_arrays"  # key of the placeholder of a tree without arrays
_NOT_VALIDATED = -1.0  # Dice of a checkpoint without a validation, below any real one
_SECONDS_OF_OTHER_READS = 0.2
_policies = ocp.checkpoint_managers


class Checkpoints:
    """Writes the checkpoints of a run and resumes from them; keeps the newest `keep` and the best by validation Dice.

    Saving is asynchronous; leaving the context (or `close`) waits until everything is written. A checkpoint that cannot
    be read is reported and moved to the folder `damaged` beside the checkpoints. Where several processes train
    together, only the first one opens it.
    """

    def __init__(self, directory: Path, *, keep: int = 2, identity: dict[str, Any] | None = None):
        """Opens the folder `directory`, and makes it where there is none.

        Args:
          directory: folder of the checkpoints.
          keep: number of newest checkpoints that are kept.
          identity: what makes the run's weights, as JSON; kept with each checkpoint, see `air_jax.workdir.config`.
        """
        self._identity = identity or {}
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every save in a dozen lines
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        for folder in _step_folders(self.directory):  # the manager would not open a folder with damaged scores
            try:
                _read_scores(folder)
            except (FileNotFoundError, NotADirectoryError, ValueError) as error:
                self._set_aside(folder, error)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=False,  # done above; Orbax makes no folder for some of the processes
                multiprocessing_options=_this_process_alone(),
                # max_to_keep together with best_fn would delete the newest checkpoint when it is not among the best.
                preservation_policy=_policies.AnyPreservationPolicy(
                    [
                        _policies.LatestN(keep),
                        _policies.BestN(
                            get_metric_fn=lambda scores: scores[BEST_SCORE],
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                best_fn=lambda scores: scores[BEST_SCORE],
                atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE),
            ),
        )

    def save(self, step: int, params: Any, opt_state: Any, scores: dict[str, float] | None) -> None:
        """Saves in the background, with a checksum of each part.

        Args:
          step: number of steps taken.
          params, opt_state: trees of arrays.
          scores: those of the validation, `dice` among them. None: there was no validation; the checkpoint is for
            going on, and is the best one only where there is no other.

        Raises:
          UserError: this checkpoint, or the one before, cannot be written.
        """
        scores = {BEST_SCORE: _NOT_VALIDATED} if scores is None else scores
        metrics = {name: float(score) for name, score in scores.items()}
        # Copies: the caller's next step reuses the device buffers, which on CPU are the very memory to be written.
        params, opt_state = jax.tree.map(np.array, (params, opt_state))
        with self._writing():
            self._save(step, params, opt_state, metrics)

    def _save(self, step: int, params: Any, opt_state: Any, metrics: dict[str, float]) -> None:
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(_not_empty(params)),
                opt_state=ocp.args.StandardSave(_not_empty(opt_state)),
                checksums=ocp.args.JsonSave(
                    {
                        "params": checksum(params),
                        "opt_state": checksum(opt_state),
                        "scores": scores_checksum(metrics),
                        "identity": self._identity,
                    }
                ),
            ),
            metrics=metrics,
            force=True,
        )

    def restore_newest(self, params: Any, opt_state: Any) -> tuple[int, Any, Any] | None:
        """Restores the newest readable checkpoint.

        Args:
          params, opt_state: trees of the structure and shapes that are restored.

        Returns:
          Step, parameters and optimizer's state; None where there is no checkpoint.

        Raises:
          UserError: there are checkpoints, but none can be read, or the newest is of a run with another identity.
        """
        damaged = []
        for folder in reversed(_step_folders(self.directory)):
            try:
                restored = _read_item(folder, "params", params), _read_item(folder, "opt_state", opt_state)
            except Exception as error:  # Orbax and TensorStore raise another type for each way a file can be damaged
                damaged.append((folder, error))
                continue
            check_identity(folder, self._identity)
            for bad_folder, error in damaged:
                self._set_aside(bad_folder, error)
            self._manager.reload()
            return int(folder.name), *restored
        if damaged:
            folder, error = damaged[0]
            raise UserError(
                f"{self.directory}: none of the {len(damaged)} checkpoints can be read (step {folder.name}: "
                f"{first_line(error)}); restore them from a copy, or choose another --workdir"
            )
        return None

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
          UserError: the last checkpoint cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is written, and closes."""
        self.wait()
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(Exception):  # the first error counts
            self.wait()
        with contextlib.suppress(Exception):
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns the errors of a full disk or a folder that may not be written, of many types, into `UserError`."""
        try:
            yield
        except Exception as error:
            raise UserError(
                f"{self.directory}: a checkpoint cannot be written ({first_line(error)}); those before are whole; "
                "make room or allow writing, and give the same command again"
            ) from error

    def _set_aside(self, folder: Path, error: Exception) -> None:
        aside = self.directory.parent / "damaged" / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        shutil.move(folder, aside)
        print(f"checkpoints: step {folder.name} is damaged ({first_line(error)}); moved it to {aside}", flush=True)


def restore_best_params(directory: Path, *, identity: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Restores the best checkpoint that can be read, and changes nothing in the folder.

    Args:
      directory: folder of the checkpoints.
      identity: what makes the run's weights, see `Checkpoints`. Default: it is not compared.

    Returns:
      Step and parameters.

    Raises:
      UserError: there is no readable checkpoint, or it is of a run with another identity.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    ranked = []
    for folder in _step_folders(Path(directory).absolute()):
        try:
            ranked.append((_read_scores(folder)[BEST_SCORE], int(folder.name), folder))
        except (OSError, ValueError, KeyError) as error:
            print(f"checkpoints: {folder} is damaged ({first_line(error)}); passing it over", flush=True)
    for _, step, folder in sorted(ranked, reverse=True):
        try:
            params = _read_item(folder, "params")
            if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
                raise ValueError("parameters are not finite")
            check_identity(folder, identity or {})
            return step, params
        except UserError:
            raise
        except Exception as error:  # see restore_newest
            print(f"checkpoints: {folder} is damaged ({first_line(error)}); passing it over", flush=True)
    raise UserError(
        f"{directory}: no checkpoint that can be read; is it a run's, and did the run reach its first validation?"
    )


def checkpoint_steps(directory: Path) -> list[int]:
    """Steps of the checkpoints in a folder, whole or not, in ascending order; none where there is no folder."""
    return [int(folder.name) for folder in _step_folders(directory)]


def _step_folders(directory: Path) -> list[Path]:
    """The folders of a run's checkpoints, whole or not, oldest step first."""
    if not directory.is_dir():
        return []
    # `str.isdigit` alone would also take other scripts' digits, and "²", which is no number.
    steps = (path for path in directory.iterdir() if path.name.isascii() and path.name.isdigit())
    return sorted(steps, key=lambda path: int(path.name))


def _read_scores(folder: Path) -> dict[str, float]:
    if not (folder / _COMMIT_FILE).exists():
        raise ValueError("not completely written")
    scores = read_json(folder / "metrics" / "metrics")
    check_part(folder, "scores", lambda: scores_checksum(scores))
    return scores


def _read_item(folder: Path, name: str, target: Any = None) -> Any:
    with ocp.StandardCheckpointer(multiprocessing_options=_this_process_alone()) as checkpointer:
        like = None if target is None else jax.tree.map(np.asarray, _not_empty(target))
        tree = _restored(lambda: checkpointer.restore(folder / name, like))
    is_empty = isinstance(tree, dict) and tree.keys() == {_EMPTY}
    tree = {} if is_empty else tree
    check_part(folder, name, lambda: checksum(tree))
    return tree


def _restored(restore: Callable[[], Any]) -> Any:
    """Restores a tree. Where a file is damaged, the reads of the others end afterwards, each with a traceback."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return restore()
        except Exception:
            time.sleep(_SECONDS_OF_OTHER_READS)
            raise


def _not_empty(tree: Any) -> Any:
    """The tree, or a placeholder for one without arrays, which Orbax refuses: models without parameters have it."""
    return tree if jax.tree.leaves(tree) else {_EMPTY: np.zeros(1, np.int8)}


def _this_process_alone() -> ocp.options.MultiprocessingOptions:
    """Options with which Orbax does not wait for the other processes, which do not call it."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )
