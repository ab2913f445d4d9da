"""Scores of a model over lists of pairs, as they go into `metrics.jsonl` and `eval.json`."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from air_jax.data import Images
from air_jax.data.pairs import Pair, all_pairs, gather, random_pairs, same_class_pairs, unit_pair
from air_jax.training.recipe import EvaluationPlan
from air_jax.training.tasks import STAGES, Refine, Task

Scores = dict[str, dict[str, float]]
EachScores = dict[str, dict[str, np.ndarray]]
PairLists = dict[str, np.ndarray]

# Column heads of the terminal's table, by score.
COLUMNS = {
    "dice": "Dice",
    "mse": "MSE",
    "folding_percent": "folding %",
    "any_corner_folding_percent": "any corner %",
    "ndv_percent": "NDV %",
    "sd_log_jacobian": "SD log J",
    "endpoint_error": "EPE",
    "foreground_endpoint_error": "EPE (fg)",
}
# Names of the lists of pairs in the terminal's table.
TITLES = {"random_pairs": "random", "all_pairs": "all", "listed_pairs": "listed", "same_label_pairs": "same label"}


class Scorer:
    """Scores lists of pairs with one model; compiles once for a batch size.

    Args:
      task: scores and prediction of the model.
      plan: batch size and seed.
      refine: instance optimisation that is timed as well, see `air_jax.training.tasks.registration_task`.
    """

    def __init__(self, task: Task, plan: EvaluationPlan, *, refine: Refine | None = None):
        self._evaluate = jax.jit(task.evaluate)
        self._predict = jax.jit(task.predict)
        self._plan = plan
        self._refine = refine

    def score(self, params: Any, images: Images, pairs: np.ndarray) -> Scores:
        """Scores pairs `[n, 2]` (fixed first) of `images`.

        Returns:
          For each stage of `STAGES` that the task has, means over the pairs by name (see `means` for undefined ones).
        """
        return means(self.each(params, images, pairs))

    def each(self, params: Any, images: Images, pairs: np.ndarray) -> EachScores:
        """Scores as `score` does, without the means: `[n]` for each stage and name; NaN where a score is undefined."""
        # On one device: parameters that are on several would make each of them compute all scores.
        params = jax.device_put(params, jax.local_devices()[0])
        collected = []
        for pair, keys, size in self._batches(images, pairs):
            scores = self._evaluate(params, pair, keys)
            collected.append(jax.tree.map(lambda score, size=size: np.asarray(score)[:size], scores))
        joined = jax.tree.map(lambda *batches: np.concatenate(batches), *collected)
        return {stage: joined[stage] for stage in STAGES if stage in joined}

    def seconds_per_pair(self, params: Any, images: Images, pairs: np.ndarray, repeats: int = 5) -> dict[str, float]:
        """Median time of one pair in batches, without compilation: `after` the model and, if any, `refined`."""
        pair, *_ = next(self._batches(images, pairs))
        pair, _ = unit_pair(jax.device_put(pair))
        fixed, moving = pair.fixed, pair.moving
        predicted = jax.block_until_ready(self._predict(params, fixed, moving))
        seconds = {"after": _median_seconds(lambda: self._predict(params, fixed, moving), repeats) / len(fixed)}
        if self._refine is not None:
            refine = jax.jit(self._refine)
            jax.block_until_ready(refine(fixed, moving, predicted))
            longer = _median_seconds(lambda: refine(fixed, moving, predicted), 1) / len(fixed)
            seconds["refined"] = seconds["after"] + longer
        return seconds

    def _batches(self, images: Images, pairs: np.ndarray) -> Iterator[tuple[Pair, jax.Array, int]]:
        """Yields pairs and keys in equal batches, the last filled up, and how many of them count."""
        size = min(self._plan.batch_size, len(pairs))
        for start in range(0, len(pairs), size):
            chunk = pairs[start : start + size]
            padded = np.resize(chunk, (size, 2))
            keys = pair_keys(self._plan.pairs_seed, len(images), padded)
            yield gather(images, *padded.T), keys, len(chunk)


def _median_seconds(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def pair_keys(seed: int, num_images: int, pairs: np.ndarray) -> jax.Array:
    """Keys of the artificial deformations of pairs `[n, 2]`, each a function of the pair only: `[n]`."""
    key = jax.random.fold_in(jax.random.key(seed), num_images)
    return jax.vmap(lambda pair: jax.random.fold_in(jax.random.fold_in(key, pair[0]), pair[1]))(pairs)


def means(each: EachScores) -> Scores:
    """Means over pairs. A pair without any foreground has no Dice and no error in it (NaN), and is left out.

    Where that is every pair, Dice is 0, so that there is a score to choose a checkpoint by; the error is left out.
    """
    return {stage: _means(scores) for stage, scores in each.items()}


def _means(scores: dict[str, np.ndarray]) -> dict[str, float]:
    defined = {name: values[~np.isnan(values)] for name, values in scores.items()}
    found = {name: float(values.mean()) for name, values in defined.items() if values.size}
    return {"dice": 0.0} | found


def pair_lists(images: Images, plan: EvaluationPlan) -> PairLists:
    """The fixed lists of pairs `[n, 2]` (fixed first) of one part of a data set, by name.

    The first list is that by which checkpoints are chosen: `listed_pairs` where the set has pairs of its own,
    `all_pairs` where there are no more of them than asked for, and otherwise `random_pairs`.
    """
    if images.pairs is not None:
        return {"listed_pairs": images.pairs[: plan.num_pairs]}
    if len(images) * (len(images) - 1) <= plan.num_pairs:
        lists = {"all_pairs": all_pairs(len(images))}
    else:
        lists = {"random_pairs": random_pairs(plan.pairs_seed, len(images), plan.num_pairs)}
    classes = None if plan.artificial else images.classes  # an artificial fixed image has no class of its own
    if classes is not None and np.unique(classes, return_counts=True)[1].max() > 1:
        lists["same_label_pairs"] = same_class_pairs(plan.pairs_seed, classes, plan.num_pairs)
    return lists


def score_lists(
    scorer: Scorer, params: Any, images: Images, lists: PairLists
) -> tuple[dict[str, Any], dict[str, EachScores]]:
    """Scores of every list, and the time a pair: the part of `eval.json` that is measured; and the scores of each pair
    by list.
    """
    first = next(iter(lists.values()))
    each = {name: scorer.each(params, images, pairs) for name, pairs in lists.items()}
    report: dict[str, Any] = {"num_pairs": len(first)}
    report |= {name: means(scores) for name, scores in each.items()}
    seconds = scorer.seconds_per_pair(params, images, first)
    report["seconds_per_pair"] = seconds["after"]
    if "refined" in seconds:
        report["seconds_per_refined_pair"] = seconds["refined"]
    report["machine"] = f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
    return report, each


def table(report: dict[str, Any]) -> str:
    """The scores of `eval.json` as lines for a terminal."""
    lists = {TITLES[name]: report[name] for name in TITLES if name in report}
    names = [name for name in COLUMNS if name in next(iter(lists.values()))["after"]]
    lines = [f"{'test pairs':<12}{'':<8}" + "".join(f"{COLUMNS[name]:>14}" for name in names)]
    for title, scores in lists.items():
        for stage in scores:
            lines.append(f"{title:<12}{stage:<8}" + "".join(f"{scores[stage][name]:>14.4f}" for name in names))
    seconds = f"{1e3 * report['seconds_per_pair']:.3f} ms a pair in batches"
    if "seconds_per_refined_pair" in report:
        seconds += f", {1e3 * report['seconds_per_refined_pair']:.0f} ms with refinement"
    lines.append(
        f"{report['num_pairs']:,} pairs each, pairs seed {report['pairs_seed']}, training seed {report['seed']}, "
        f"best checkpoint: step {report['checkpoint_step']:,}, {seconds}"
    )
    return "\n".join(lines)
