"""The page of a run: its data are the log, the scores and the arrays."""

import base64
import io
import json
import math
import re

import numpy as np
from PIL import Image

from air_jax.training.run_report import chosen_pairs
from air_jax.visualize.run_page import run_page
from air_jax.visualize.run_panels import registration_panels, segmentation_panels

LINES = [
    {"step": 2, "loss": 4.0, "mse": 3.0, "diffusion": 0.0, "pairs_per_second": 5.0, "seconds_to_compile_and_run": 9.0},
    {"step": 4, "loss": 2.0, "mse": 1.5, "diffusion": 0.5, "pairs_per_second": 50.0},
    {"step": 4, "validation_dice": 0.5},
    {"step": 6, "loss": math.inf, "mse": math.inf, "diffusion": 0.25, "pairs_per_second": 70.0},
]


def content_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def pixels(panel):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(panel["image"].split(",")[1]))))


def test_the_page_holds_curves_scores_and_facts():
    given = {"headline": {"Dice": "0.5"}, "pairs": [("<b>", [])], "folded_facts": {"all": {"</script>": "x"}}}
    scores = {"random": {"before": {"dice": 0.25}, "after": {"dice": 0.5, "folding_percent": 1.0}}}
    each = {"dice": np.array([0.1, 0.5, np.nan, 0.9])}
    page = run_page(LINES, title="t", scores=scores, each=each, facts={"config": {"a": "1"}, "none": {}}, **given)
    assert page.count("</script>") == 2
    content = content_of(page)
    charts = {chart["title"]: [curve["points"] for curve in chart["series"]] for chart in content["charts"]}
    assert charts == {
        "Training loss": [[[2, 4.0], [4, 2.0]]],  # the infinite one cannot be drawn
        "Terms of the loss": [[[2, 3.0], [4, 1.5]], [[4, 0.5], [6, 0.25]]],  # 0 has no logarithm
        "Validation Dice": [[[4, 0.5]]],
        "Pairs a second": [[[4, 50.0], [6, 70.0]]],  # without the dispatch that compiled
    }
    tables = {table["name"]: table["rows"] for table in content["tables"]}
    assert tables["Scores, random"] == [["dice", "0.25", "0.5"], ["folding (%)", "", "1"]]
    assert tables["Spread over the pairs"] == [["dice", "0.1", "0.5", "0.9"]]
    assert tables["config"] == [["a", "1"]]
    assert tables["all"] == [["</script>", "x"]]
    assert "none" not in tables


def test_long_logs_become_means_of_neighbours():
    lines = [{"step": step, "loss": float(step)} for step in range(1, 1001)]
    page = run_page(lines, title="", headline={}, scores={}, each={}, pairs=[], facts={}, folded_facts={})
    (chart,) = content_of(page)["charts"]
    assert chart["series"][0]["points"][:2] == [[1.5, 1.5], [3.5, 3.5]]
    assert len(chart["series"][0]["points"]) == 500


def test_best_median_and_worst_pairs():
    dice = np.array([0.5, 0.9, np.nan, 0.1, 0.7, 0.3])
    assert chosen_pairs(dice) == {"best": 1, "median": 0, "worst": 3}
    assert chosen_pairs(np.array([np.nan, 0.5])) == {"best": 1}
    assert chosen_pairs(np.array([np.nan])) == {}


def test_panels_show_images_grid_and_folds():
    rng = np.random.default_rng(0)
    fixed, moving, warped = rng.random((3, 9, 12, 1), np.float32)
    displacement = np.zeros((9, 12, 2), np.float32)
    displacement[3, 6] = 0, 2.5  # folds as in test_runs.py
    drawn = registration_panels(fixed, moving, warped, displacement)
    panels = {panel["title"].split(":")[0]: panel for panel in drawn}
    for name, image in (("moving", moving), ("fixed", fixed), ("warped", warped)):
        np.testing.assert_array_equal(pixels(panels[name])[..., 1], np.rint(255 * image[..., 0]))
    lines = panels["deformed grid"]["lines"]
    assert lines.count("M") == 9 + 12
    assert lines.startswith("M0 0L1 0L2 0")
    assert "8.5 3" in lines
    red, orange = (pixels(panels["folds"])[..., :3] == colour for colour in ((214, 38, 41), (255, 176, 0)))
    assert np.argwhere(red.all(axis=-1)).tolist() == [[3, 7]]
    assert np.argwhere(orange.all(axis=-1)).tolist() == [[3, 6]]


def test_segmentations_are_coloured_over_the_image():
    image = np.full((4, 5, 1), 0.5, np.float32)
    known, found = np.zeros((2, 4, 5), int)
    known[1, 2], found[1, 3] = 7, 7
    shown = {panel["title"]: pixels(panel) for panel in segmentation_panels(image, known, found)}
    grey = (shown["image"] == 128).all(axis=-1)
    assert grey.all()
    assert np.argwhere((shown["known"] != 128).any(axis=-1)).tolist() == [[1, 2]]
    assert np.argwhere((shown["difference"] != 128).any(axis=-1)).tolist() == [[1, 2], [1, 3]]
