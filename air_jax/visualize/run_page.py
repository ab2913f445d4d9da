"""The page of a training run: scores, curves, pairs and tables, in one HTML file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from air_jax.visualize import html
from air_jax.visualize.panels import printable

MAX_POINTS = 500  # of a curve
# Title of each chart, whether its axis is logarithmic, and the entries of the log with their labels.
CHARTS = (
    ("Training loss", False, {"loss": "loss"}),
    ("Validation Dice", False, {"validation_dice": "Dice"}),
    (
        "Validation folding (%)",
        False,
        {"validation_folding_percent": "central differences", "validation_any_corner_folding_percent": "any corner"},
    ),
    ("Norms", True, {"grad_norm": "gradient", "update_norm": "update", "param_norm": "parameters"}),
    ("Learning rate", False, {"learning_rate": "learning rate"}),
    ("Pairs a second", False, {"pairs_per_second": "pairs"}),
)
_NOT_TERMS = {"step", "seconds_to_compile_and_run", "loss"} | {key for *_, entries in CHARTS for key in entries}


def run_page(
    lines: Sequence[Mapping[str, float]],
    *,
    title: str,
    headline: Mapping[str, str],
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    each: Mapping[str, np.ndarray],
    pairs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]],
    facts: Mapping[str, Mapping[str, str]],
    folded_facts: Mapping[str, Mapping[str, str]],
) -> str:
    """Makes a page that needs no other file and no network.

    Args:
      lines: lines of the run's `metrics.jsonl`, each with a `step`.
      title: title of the page, any text.
      headline: the most important numbers, by their names.
      scores: `{list of pairs: {stage: {name: value}}}`.
      each: scores `[n]` by name of the pairs of the first list, after the registration; their quantiles are shown.
      pairs: captions and panels, see `air_jax.visualize.run_panels`.
      facts: tables of names and texts, by their titles.
      folded_facts: further ones, which the reader opens.

    Returns:
      The HTML text. Texts that come from users are data in it, never markup.
    """
    tables = [_score_table(name, stages) for name, stages in scores.items()]
    tables += [_quantiles(each)] * bool(each)
    tables += [html.fact_table(name, rows) for name, rows in facts.items() if rows]
    tables += [html.fact_table(name, rows, folded=True) for name, rows in folded_facts.items() if rows]
    content = {
        "title": printable(title),
        "warnings": [],
        "headline": [[printable(name), printable(value)] for name, value in headline.items()],
        "charts": _charts(lines),
        "pairs": [{"caption": printable(caption), "panels": list(panels)} for caption, panels in pairs],
        "tables": tables,
    }
    return html.page("run.html", content)


def _charts(lines: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for line in lines for name in line)
    terms = {
        name: name.replace("_", " ") for name in names if not name.startswith("validation_") and name not in _NOT_TERMS
    }
    charts = []
    for title, is_logarithmic, entries in (CHARTS[0], ("Terms of the loss", True, terms), *CHARTS[1:]):
        if entries is terms and len(terms) < 2:  # the only one is the loss
            continue
        series = [{"label": label, "points": _points(lines, name, is_logarithmic)} for name, label in entries.items()]
        if series := [curve for curve in series if curve["points"]]:
            charts.append({"title": title, "logarithmic": is_logarithmic, "series": series})
    return charts


def _points(lines: Sequence[Mapping[str, float]], name: str, is_logarithmic: bool) -> list[list[float]]:
    """The finite values of an entry, above 0 for a logarithmic axis; of many, means of neighbours."""
    found = [
        (line["step"], line[name])
        for line in lines
        # The first dispatch of a length compiles, so its speed is not that of the run.
        if name in line and not (name == "pairs_per_second" and "seconds_to_compile_and_run" in line)
    ]
    kept = [point for point in found if math.isfinite(point[1]) and not (is_logarithmic and point[1] <= 0)]
    if not kept:
        return []
    parts = np.array_split(np.array(kept), min(len(kept), MAX_POINTS))
    return [[float(f"{value:.6g}") for value in part.mean(axis=0)] for part in parts]


def _score_table(name: str, stages: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    names = dict.fromkeys(score for scores in stages.values() for score in scores)
    rows = [[_readable(score), *(html.number(scores.get(score)) for scores in stages.values())] for score in names]
    return {"name": f"Scores, {name}", "columns": ["", *stages], "rows": rows, "folded": False}


def _quantiles(each: Mapping[str, np.ndarray]) -> dict[str, Any]:
    shares = {"least": 0, "median": 50, "most": 100}
    rows = []
    for name, values in each.items():
        defined = values[np.isfinite(values)]
        if defined.size:
            rows.append(
                [
                    _readable(name),
                    *(html.number(float(value)) for value in np.percentile(defined, list(shares.values()))),
                ]
            )
    return {"name": "Spread over the pairs", "columns": ["", *shares], "rows": rows, "folded": False}


def _readable(name: str) -> str:
    return name.replace("_percent", " (%)").replace("_", " ")
