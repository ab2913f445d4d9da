"""`report.html` of a run: curves, scores, best, median and worst pairs, config, speed and versions."""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from air_jax._version import __version__
from air_jax.data import Images
from air_jax.runtime.files import replace_text
from air_jax.training import figures
from air_jax.training.recipe import TrainingRecipe
from air_jax.training.scoring import COLUMNS, TITLES, EachScores
from air_jax.visualize.run_page import run_page
from air_jax.workdir import log
from air_jax.workdir.config import flat
from air_jax.workdir.defaults import Config, default_config

FILE_NAME = "report.html"
PACKAGES = ("jax", "flax", "optax", "numpy")
Panels = Sequence[Mapping[str, Any]]


def write_report(
    workdir: Path,
    config: Config,
    recipe: TrainingRecipe,
    report: Mapping[str, Any],
    each: EachScores,
    test: Images,
    pairs: np.ndarray,
    draw: Callable[[np.ndarray], Sequence[Panels]],
) -> None:
    """Writes `report.html` into the run's folder.

    Args:
      workdir: folder of the run.
      config, recipe: of the run.
      report: content of `eval.json`.
      each: scores of each pair of the first list.
      test: images of the test part.
      pairs: the first list, `[n, 2]`.
      draw: `draw(pairs)` returns the panels of each of a few pairs, see `air_jax.visualize.run_panels`.
    """
    lines, stage = log.read(workdir), next(reversed(each))
    after = each[stage]
    chosen = chosen_pairs(after["dice"]) if figures.can_be_drawn(test) else {}
    panels = draw(pairs[list(chosen.values())]) if chosen else []
    defaults, values = flat(default_config(config.model.name)), flat(config)
    page = run_page(
        lines,
        title=f"{workdir.absolute().name}: {config.model.name} on {Path(recipe.dataset['name']).name}",
        headline=_headline(report, each),
        scores={
            f"{TITLES[name]} test pairs": {stage: _ordered(scores) for stage, scores in report[name].items()}
            for name in TITLES
            if name in report
        },
        each=_ordered(after),
        pairs=[
            (_caption(name, index, pairs[index], each), drawn)
            for (name, index), drawn in zip(chosen.items(), panels, strict=True)
        ],
        facts={
            "Config, where it differs from the defaults": _texts(
                {key: value for key, value in values.items() if value != defaults.get(key)}
            ),
            "Speed": _speed(report, lines),
            "Versions": {"air_jax": __version__}
            | {name: importlib.metadata.version(name) for name in PACKAGES}
            | {"python": platform.python_version(), "machine": report["machine"]},
        },
        folded_facts={"Whole config": _texts(values)},
    )
    replace_text(workdir / FILE_NAME, page)
    print(f"report: {workdir / FILE_NAME}", flush=True)


def chosen_pairs(dice: np.ndarray) -> dict[str, int]:
    """Returns the index of the best, median and worst pair; pairs without a Dice (NaN) and repeats are left out.

    Args:
      dice: `[n]`.
    """
    order = np.argsort(dice)[: np.isfinite(dice).sum()]  # NaN comes last
    if not order.size:
        return {}
    found: dict[str, int] = {}
    for name, index in (("best", order[-1]), ("median", order[len(order) // 2]), ("worst", order[0])):
        if index not in found.values():
            found[name] = int(index)
    return found


def _caption(name: str, index: int, pair: np.ndarray, each: EachScores) -> str:
    dice = " → ".join(f"{scores['dice'][index]:.3f}" for scores in each.values())
    after = each[next(reversed(each))]
    folding = f", {after['folding_percent'][index]:.2f} % folded" if "folding_percent" in after else ""
    return f"{name}: image {pair[1]} to image {pair[0]}, Dice {dice}{folding}"


def _headline(report: Mapping[str, Any], each: EachScores) -> dict[str, str]:
    means = next(value for value in report.values() if isinstance(value, Mapping))
    after = each[next(reversed(each))]
    shown = {"Dice before → after": " → ".join(f"{scores['dice']:.3f}" for scores in means.values())}
    if "folding_percent" in after:
        folded = np.mean(after["any_corner_folding_percent"] > 0)
        shown["of the voxels fold"] = f"{after['folding_percent'].mean():.2f} %"
        shown["of the pairs have a fold at a corner"] = f"{100 * folded:.0f} %"
    shown["a pair in batches"] = f"{1e3 * report['seconds_per_pair']:.3g} ms"
    shown["steps, best checkpoint"] = f"{report['checkpoint_step']:,}"
    return shown


def _speed(report: Mapping[str, Any], lines: Sequence[Mapping[str, float]]) -> dict[str, str]:
    speeds = [
        line["pairs_per_second"]
        for line in lines
        if "pairs_per_second" in line and "seconds_to_compile_and_run" not in line
    ]
    compiled = sum(line.get("seconds_to_compile_and_run", 0) for line in lines)
    shown = {"training, median": f"{np.median(speeds):,.0f} pairs/s"} if speeds else {}
    if compiled:
        shown["first dispatches, with compilation"] = f"{compiled:.1f} s"
    shown["one pair in batches"] = f"{1e3 * report['seconds_per_pair']:.3g} ms"
    if "seconds_per_refined_pair" in report:
        shown["with refinement"] = f"{1e3 * report['seconds_per_refined_pair']:.3g} ms"
    return shown


def _ordered(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores in the order of the terminal's table, then the others."""
    return {name: scores[name] for name in dict.fromkeys([*COLUMNS, *scores]) if name in scores}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items()}
