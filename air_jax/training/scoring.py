"""Scores of a model over lists of pairs, as they go into `metrics.jsonl` and `eval.json`."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from air_jax.data import Images
from air_jax.data.deformation import Deformation
from air_jax.data.pairs import Pair, all_pairs, gather, random_pairs, same_class_pairs, unit_pair
from air_jax.training.steps import make_eval_step
from air_jax.workdir import config as configs

Scores = dict[str, dict[str, float]]

STAGES = ("before", "after", "refined")
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


# How the lists of pairs are called in the terminal's table.
TITLES = {"random_pairs": "random", "all_pairs": "all", "listed_pairs": "listed", "same_label_pairs": "same label"}


class Scorer:
    """Scores lists of pairs with one model; compiles once for a batch size.

    Args:
      model: see `air_jax.training.steps.make_eval_step`.
      batch_size: pairs at once.
      deformation, labels: see `air_jax.training.steps.make_eval_step`.
      seed: of the artificial deformations.
      refine: where refined displacements are scored too, see `air_jax.training.steps.make_eval_step`.
    """

    def __init__(
        self,
        model: nn.Module,
        batch_size: int,
        deformation: Deformation | None = None,
        seed: int = 0,
        *,
        labels: tuple[int, ...] = (),
        refine: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None,
    ):
        self._eval_step = jax.jit(make_eval_step(model, deformation, labels=labels, refine=refine))
        self._seed = seed
        self._refine = refine
        self._predict = jax.jit(lambda params, fixed, moving: model.apply({"params": params}, fixed, moving)[0])
        self._batch_size = batch_size

    def score(self, params: Any, images: Images, pairs: np.ndarray) -> Scores:
        """Mean scores of pairs `[n, 2]` (fixed first) of `images`.

        Returns:
          `before` and `after` registration and, where it is asked for, `refined`, each a dict of means over the pairs
          (see `_means` for undefined ones).
        """
        # On one device: parameters that are on several would make each of them compute all scores.
        params = jax.device_put(params, jax.local_devices()[0])
        collected = []
        for pair, keys, size in self._batches(images, pairs):
            scores = self._eval_step(params, pair, keys)
            collected.append(jax.tree.map(lambda score, size=size: np.asarray(score)[:size], scores))
        scores = jax.tree.map(lambda *batches: np.concatenate(batches), *collected)
        return {when: _means(scores[when]) for when in STAGES if when in scores}

    def seconds_per_pair(self, params: Any, images: Images, pairs: np.ndarray, repeats: int = 5) -> dict[str, float]:
        """Median time of one pair's displacement, in batches, compilation excluded: `after` and, if any, `refined`."""
        pair, *_ = next(self._batches(images, pairs))
        (fixed, moving, *_), _ = unit_pair(pair)
        displacement = jax.block_until_ready(self._predict(params, fixed, moving))
        seconds = {"after": _median_seconds(lambda: self._predict(params, fixed, moving), repeats) / len(fixed)}
        if self._refine is not None:
            refine = jax.jit(self._refine)
            jax.block_until_ready(refine(fixed, moving, displacement))
            longer = _median_seconds(lambda: refine(fixed, moving, displacement), 1) / len(fixed)
            seconds["refined"] = seconds["after"] + longer
        return seconds

    def _batches(self, images: Images, pairs: np.ndarray) -> Iterator[tuple[Pair, jax.Array, int]]:
        """Yields pairs and keys in equal batches, the last filled up, and how many of them count."""
        size = min(self._batch_size, len(pairs))
        for start in range(0, len(pairs), size):
            chunk = pairs[start : start + size]
            padded = np.resize(chunk, (size, 2))
            yield gather(images, *padded.T), pair_keys(self._seed, len(images), padded), len(chunk)


def _median_seconds(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def pair_keys(seed: int, num_images: int, pairs: np.ndarray) -> jax.Array:
    """Keys of the artificial deformations of pairs `[n, 2]`, each a function of the pair alone: `[n]`."""
    key = jax.random.fold_in(jax.random.key(seed), num_images)
    return jax.vmap(lambda pair: jax.random.fold_in(jax.random.fold_in(key, pair[0]), pair[1]))(pairs)


def _means(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over pairs. A pair without any foreground has no Dice and no error in it (NaN), and is left out.

    Where that is every pair, Dice is 0, so that there is a score to choose a checkpoint by; the error is left out.
    """
    defined = {name: values[~np.isnan(values)] for name, values in scores.items()}
    means = {name: float(values.mean()) for name, values in defined.items() if values.size}
    return {"dice": 0.0} | means


def pair_lists(images: Images, config: ConfigDict) -> dict[str, np.ndarray]:
    """The fixed lists of pairs `[n, 2]` (fixed first) of one part of a data set, by name, as `config.eval` says.

    The first is that by which checkpoints are chosen: `listed_pairs` where the set has pairs of its own, `all_pairs`
    where there are no more of them than asked for, and otherwise `random_pairs`.
    """
    count, seed = config.eval.num_pairs, config.eval.pairs_seed
    if images.pairs is not None:
        return {"listed_pairs": images.pairs[:count]}
    if len(images) * (len(images) - 1) <= count:
        lists = {"all_pairs": all_pairs(len(images))}
    else:
        lists = {"random_pairs": random_pairs(seed, len(images), count)}
    artificial = configs.deformation(config) is not None  # then the fixed image has no class of its own
    if not artificial and images.classes is not None and np.unique(images.classes, return_counts=True)[1].max() > 1:
        lists["same_label_pairs"] = same_class_pairs(seed, images.classes, count)
    return lists


def evaluate(scorer: Scorer, params: Any, step: int, test: Images, config: ConfigDict) -> dict[str, Any]:
    """The final scores, on the test part: what `eval.json` holds."""
    report: dict[str, Any] = {
        "checkpoint_step": step,
        "dataset": config.dataset.name,
        "seed": config.seed,
        "pairs_seed": config.eval.pairs_seed,
    }
    lists = pair_lists(test, config)
    report["num_pairs"] = len(next(iter(lists.values())))
    for name, pairs in lists.items():
        report[name] = scorer.score(params, test, pairs)
    seconds = scorer.seconds_per_pair(params, test, next(iter(lists.values())))
    report["seconds_per_pair"] = seconds["after"]
    if "refined" in seconds:
        report["seconds_per_refined_pair"] = seconds["refined"]
    report["machine"] = f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
    return report


def table(report: dict[str, Any]) -> str:
    """The scores of `evaluate` as lines for a terminal."""
    lists = {TITLES[name]: report[name] for name in TITLES if name in report}
    names = [name for name in COLUMNS if name in next(iter(lists.values()))["after"]]
    lines = [f"{'test pairs':<12}{'':<8}" + "".join(f"{COLUMNS[name]:>14}" for name in names)]
    for title, scores in lists.items():
        for when in scores:
            lines.append(f"{title:<12}{when:<8}" + "".join(f"{scores[when][name]:>14.4f}" for name in names))
    seconds = f"{1e3 * report['seconds_per_pair']:.3f} ms a pair in batches"
    if "seconds_per_refined_pair" in report:
        seconds += f", {1e3 * report['seconds_per_refined_pair']:.0f} ms with refinement"
    lines.append(
        f"{report['num_pairs']:,} pairs each, pairs seed {report['pairs_seed']}, training seed {report['seed']}, "
        f"best checkpoint: step {report['checkpoint_step']:,}, {seconds}"
    )
    return "\n".join(lines)
