"""Compares registration methods on the same real pairs: classical tools, instance optimisation, trained models.

  python -m experiments.compare_real.run --data=FOLDER --output_dir=experiments/compare_real \
      --run cardiac=runs/cardiac --run hippocampus=runs/hippocampus

`FOLDER` holds `acdc_ed_es/acdc_2d_mid_128.npz` (ACDC, end-diastole and end-systole), `hippocampus_msd/
hippocampus_48x64x48.npz` (Medical Segmentation Decathlon, task 4) and `brains_synthseg/brains20_2mm.npz` (label maps of
SynthSeg, synthetic images). Classical tools need `pip install SimpleITK antspyx`; their settings were
chosen on training pairs. The similarity from zero on cardiac and hippocampus was compared on pairs that are scored
(`experiments/register_real`). `--sets` and `--methods` run a part. Each result goes into `<output_dir>/results.json`,
beside those of other sets and methods. The table and the figures show all of them.
"""

import argparse
import json
import os
import textwrap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import air_jax
from air_jax import metrics
from air_jax.data.pairs import random_pairs
from air_jax.losses import Objective, make_objective
from air_jax.transforms import sample, warp
from air_jax.transforms.intensity import normalize
from experiments.compare_real.classical import SETTINGS, TOOLS, machine, one_by_one
from experiments.register_real.run import CARDIAC, HIPPOCAMPUS, HIPPOCAMPUS_OPTIONS, from_zero
from experiments.tables import score_table

BRAINS = make_objective("lncc", window=5)


class Pairs(NamedTuple):
    """Images in [0, 1] and labels of `n` pairs, `[n, *S]` each."""

    fixed: np.ndarray
    moving: np.ndarray
    fixed_labels: np.ndarray
    moving_labels: np.ndarray


class Ours(NamedTuple):
    """Settings of instance optimisation from zero: objective, the same in words, options, steps, pairs a batch."""

    objective: Objective
    words: str
    options: dict
    num_steps: int
    batch_size: int


class Drawing(NamedTuple):
    """The plane of the first pair that is drawn: its axes (up or down, across), and where it lies on the third axis."""

    axes: tuple[int, int]
    index: int | None
    spacing: int
    labels: tuple[int, ...] = ()  # all, if none

    def cut(self, array: np.ndarray) -> np.ndarray:
        """`[*S, ...]` to `[*P, ...]`, one voxel thick."""
        return array if self.index is None else np.take(array, [self.index], 3 - sum(self.axes))


def cardiac(data: Path) -> Pairs:
    """The 20 validation patients: end-systole (moving) to end-diastole (fixed)."""
    image, label = read(data / "acdc_ed_es/acdc_2d_mid_128.npz")
    return Pairs(image[:, 0], image[:, 1], label[:, 0], label[:, 1])


def hippocampus(data: Path) -> Pairs:
    """100 random pairs (seed 0) of the 30 validation crops."""
    image, label = read(data / "hippocampus_msd/hippocampus_48x64x48.npz")
    image = np.stack([normalize(one, "foreground") for one in image])  # for all methods
    fixed, moving = random_pairs(0, len(image), 100).T
    return Pairs(image[fixed], image[moving], label[fixed], label[moving])


def brains(data: Path) -> Pairs:
    """All 20 ordered pairs of the last 5 subjects."""
    image, label = (array[-5:] for array in read(data / "brains_synthseg/brains20_2mm.npz"))
    fixed, moving = np.array([(i, j) for i in range(5) for j in range(5) if i != j]).T
    return Pairs(image[fixed], image[moving], label[fixed], label[moving])


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1] and labels: the validation part, or all where there is no split."""
    with np.load(path) as arrays:
        chosen = arrays["split"] == "validation" if "split" in arrays else slice(None)
        return arrays["image"][chosen] / np.float32(255), arrays["label"][chosen]


SETS = {"cardiac": cardiac, "hippocampus": hippocampus, "brains": brains}
OURS = {
    "cardiac": Ours(CARDIAC, "lncc, window 7, + 20 mse", {"update_sigma": 1.0}, num_steps=180, batch_size=20),
    "hippocampus": Ours(HIPPOCAMPUS, "lncc, window 5", HIPPOCAMPUS_OPTIONS, num_steps=180, batch_size=10),
    "brains": Ours(BRAINS, "lncc, window 5", {"update_sigma": 1.0, "total_sigma": 0.35}, num_steps=180, batch_size=4),
}
DRAWINGS = {
    "cardiac": Drawing((0, 1), None, spacing=4),
    "hippocampus": Drawing((2, 1), 21, spacing=2),
    "brains": Drawing((0, 2), 45, spacing=3, labels=(2, 4, 10, 12, 17, 41, 43, 49, 51, 53)),
}
FIXED, WARPED, GRID = "#ffe600", "#ff2fd0", "#4fc3f7"  # colours
FROM_ZERO = "instance optimisation from zero"
ORDER = ("before", *TOOLS, FROM_ZERO)  # of the rows; trained models follow
TITLES = {  # of models, by their names in a config
    "pyramid_air": "coarse-to-fine AiR",
    "gated_demons": "attention-gated demons",
    "unrolled_demons": "unrolled demons, no attention",
}
COLUMNS = {  # of the table, and their formats
    "dice": ("Dice", ".3f"),
    "folding_percent": ("folding %", ".3f"),
    "any_corner_folding_percent": ("any corner %", ".3f"),
    "sd_log_jacobian": ("SD log J", ".3f"),
    "compressed_percent": ("compressed %", ".1f"),
    "seconds_per_pair": ("seconds a pair", ".3g"),
    "compilation_seconds": ("compilation, s", ".3g"),
}


def unregistered(fixed: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, dict]:
    return np.zeros((*fixed.shape, fixed.ndim - 1), np.float32), {}


def in_batches(register: Callable, batch_size: int, *images: np.ndarray) -> tuple[np.ndarray, dict]:
    """Displacements `[n, *S, N]` of `register(fixed, moving)`; the first batch compiles, the others' median counts."""
    size = min(batch_size, len(images[0]))
    batches = list(np.resize(np.arange(len(images[0])), -(-len(images[0]) // size) * size).reshape(-1, size))
    seconds, displacements = [], []
    for batch in batches + batches[:1] * max(0, 4 - len(batches)):  # where they are few, the first once more
        arrays = [jnp.asarray(image[batch])[..., None] for image in images]
        start = time.perf_counter()
        displacement = jax.block_until_ready(register(*arrays))
        seconds.append(time.perf_counter() - start)
        displacements.append(np.asarray(displacement))
    median = float(np.median(seconds[1:]))
    timing = {"seconds_per_pair": median / size, "compilation_seconds": seconds[0] - median}
    return np.concatenate(displacements)[: len(images[0])], timing


def trained(workdir: Path, refine_steps: int, batch_size: int, *images: np.ndarray) -> tuple[np.ndarray, dict]:
    """Displacements by a finished run's model, and their times as `in_batches` gives them."""
    registration = air_jax.load(workdir)
    images = [np.stack([normalize(image, registration.normalization) for image in side]) for side in images]

    def register(fixed, moving):
        return registration.register(fixed, moving, normalized=True, refine_steps=refine_steps).displacement

    return in_batches(register, batch_size, *images)


def scores(pairs: Pairs, displacements: np.ndarray) -> dict:
    """Means over pairs, and the Dice of each pair and each label."""
    labels = [int(label) for label in np.unique(pairs.fixed_labels) if label]

    @jax.jit
    def of_pair(displacement, fixed, moving):
        dice = metrics.label_dice(fixed, warp(moving, displacement, order=0), labels)
        compressed = metrics.compressed_percent(displacement, fixed > 0)
        result = {"dice": metrics.label_mean(dice), "dice_of_labels": dice, "compressed_percent": compressed}
        return result | metrics.displacement_scores(displacement)

    rows = [
        of_pair(*(jnp.asarray(array)[None] for array in arrays))
        for arrays in zip(displacements, pairs.fixed_labels.astype(int), pairs.moving_labels.astype(int), strict=True)
    ]
    values = {key: np.concatenate([np.asarray(row[key]) for row in rows]) for key in rows[0]}
    of_labels = np.nanmean(values.pop("dice_of_labels"), axis=0).round(4).tolist()
    return {key: float(value.mean()) for key, value in values.items()} | {
        "num_pairs": len(rows),
        "dice_standard_deviation": float(values["dice"].std()),
        "dice_of_pairs": values["dice"].round(4).tolist(),
        "dice_of_labels": dict(zip(map(str, labels), of_labels, strict=True)),
    }


def methods_of(name: str, arguments: argparse.Namespace) -> dict[str, tuple[Callable, dict]]:
    """Methods that can be run on a set, by the names of their rows.

    Returns:
      For each a function of the fixed and the moving images, and its settings for the results file.
    """
    ours = OURS[name]
    methods = {"before": (unregistered, {})}
    for method, settings in SETTINGS[name].items():
        methods[method] = partial(one_by_one, method, settings), {"threads": arguments.threads} | settings
    written = {"objective": ours.words, "num_steps": ours.num_steps, "batch_size": ours.batch_size}
    register = partial(from_zero, ours.objective, ours.options, ours.num_steps)
    written |= {"field": "dense"} | ours.options
    methods[FROM_ZERO] = partial(in_batches, register, ours.batch_size), written
    for workdir in [Path(run.split("=", 1)[1]) for run in arguments.run if run.startswith(f"{name}=")]:
        title, own_steps = description(workdir)
        refine_steps = own_steps if arguments.refine_steps is None else arguments.refine_steps
        for stage, steps in {"one pass": 0, "refined": refine_steps}.items():
            if stage == "one pass" or steps:
                written = {"workdir": workdir.name, "refine_steps": steps, "batch_size": ours.batch_size}
                methods[f"{title}, {stage}"] = partial(trained, workdir, steps, ours.batch_size), written
    return methods


def description(workdir: Path) -> tuple[str, int]:
    """What a run's model is, in the words of the table, and the steps by which its config refines."""
    config = json.loads((workdir / "config.json").read_text())
    title = TITLES[config["model"]["name"]]
    if config.get("segmenter"):
        title = f"segmenter and {title}"
    elif not config["num_train_steps"]:
        title = f"{title}, nothing trained"
    return title, config["refine"]["num_steps"]


def figure_of(name: str, pairs: Pairs, fields: dict[str, np.ndarray], results: dict[str, dict]) -> Figure:
    """One plane of one pair. `fields`: each method's displacement there, `[*P, N]`, as `Drawing.cut` gives it."""
    drawing, axes = DRAWINGS[name], DRAWINGS[name].axes
    fixed, moving, fixed_labels, moving_labels = (side[0] for side in pairs)
    labels = drawing.labels or np.unique(fixed_labels)[1:]
    options = {"cmap": "gray", "vmin": 0, "origin": "upper" if fixed.ndim == 2 else "lower"}

    def flat(array):
        array = np.moveaxis(array, axes, (0, 1))
        return array.reshape(*array.shape[:2], *array.shape[fixed.ndim :])

    def contours(axis, segmentation, colour):
        for label in labels:
            if (segmentation == label).any():
                axis.contour(segmentation == label, [0.5], colors=colour, linewidths=0.9)

    planes = [flat(drawing.cut(side)) for side in (fixed, fixed_labels, moving, moving_labels)]
    columns = [method for method in results if method != "before" and method in fields]
    ratio = planes[0].shape[0] / planes[0].shape[1]
    figure = Figure(figsize=(2.1 * (1 + len(columns)), 2 * (2.1 * ratio + 0.4) + 0.8), layout="constrained")
    panels = figure.subplots(2, 1 + len(columns), squeeze=False)
    before = results["before"]["dice_of_pairs"][0] if "before" in results else np.nan
    panels[0, 0].set_title("fixed", fontsize=9)
    panels[1, 0].set_title(f"moving, Dice {before:.3f}", fontsize=9)
    for panel, image, segmentation, colour in ((panels[0, 0], *planes[:2], FIXED), (panels[1, 0], *planes[2:], WARPED)):
        panel.imshow(image, **options)
        contours(panel, segmentation, colour)
    for (top, bottom), method in zip(panels.T[1:], columns, strict=True):
        coordinates = drawing.cut(np.moveaxis(np.indices(fixed.shape), 0, -1)) + fields[method].astype(np.float32)
        points = jnp.asarray(coordinates)[None]
        top.imshow(flat(np.asarray(sample(jnp.asarray(moving)[None], points)[0])), **options)
        contours(top, planes[1], FIXED)
        contours(top, flat(np.asarray(sample(jnp.asarray(moving_labels, jnp.int32)[None], points, order=0)[0])), WARPED)
        top.set_title(f"{textwrap.fill(method, 26)}\nDice {results[method]['dice_of_pairs'][0]:.3f}", fontsize=9)
        bottom.set_facecolor("black")
        bottom.imshow(planes[2], alpha=0.5, **options)
        grid = flat(coordinates)[..., list(axes[::-1])]  # across, up or down
        lines = [*grid[:: drawing.spacing], *np.swapaxes(grid, 0, 1)[:: drawing.spacing]]
        bottom.add_collection(LineCollection(lines, colors=GRID, linewidths=0.6), autolim=False)
    for panel in panels.flat:
        panel.set_xticks([]), panel.set_yticks([])
    above = "above: warped; contours of fixed labels (yellow), of warped ones (pink)"
    figure.supxlabel(f"{above}\nbelow: the moving image, and the grid where it is sampled", fontsize=8)
    return figure


def read_results(folder: Path) -> dict[str, dict]:
    """Results on file: `{set: {"pairs": its pairs in words, "methods": {method: result}}}`."""
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(results: dict[str, dict]) -> str:
    """The scores of all sets as a Markdown table."""
    rows = (
        ((name, method, str(result["num_pairs"])), result)
        for name in SETS
        for method, result in results.get(name, {"methods": {}})["methods"].items()
    )
    return score_table(("set", "method", "pairs"), rows, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="*", help="by their names in the table; default: all that can be run")
    parser.add_argument("--num_pairs", type=int, help="only the first of each set; the table tells how many")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the classical tools")
    parser.add_argument("--run", action="append", default=[], metavar="SET=WORKDIR", help="a finished run; repeatable")
    parser.add_argument("--refine_steps", type=int, help="of all runs; default: each run's refine.num_steps")
    arguments = parser.parse_args()
    if wrong := [run for run in arguments.run if run.split("=")[0] not in SETS or "=" not in run]:
        parser.error(f"--run={wrong[0]}: must be SET=WORKDIR, with SET one of {', '.join(SETS)}")

    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(arguments.threads)  # read when the tools are imported
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name in arguments.sets:
        all_pairs, drawing = SETS[name](arguments.data), DRAWINGS[name]
        pairs = Pairs(*(side[: arguments.num_pairs] for side in all_pairs))
        fields_path = arguments.output_dir / f"{name}.npz"
        for method, (run, settings) in methods_of(name, arguments).items():
            if arguments.methods and method not in arguments.methods:
                continue
            load = os.getloadavg()[0]
            displacements, timing = run(pairs.fixed, pairs.moving)
            result = scores(pairs, displacements) | timing | {"settings": settings, "machine": machine()}
            result["other_load"] = f"load average {load:.1f} before and {os.getloadavg()[0]:.1f} after"
            print(name, method, {key: value for key, value in result.items() if isinstance(value, float)}, flush=True)
            # Read now, and not at the start: another process may have run another method meanwhile.
            results = read_results(arguments.output_dir)
            methods = results.get(name, {"methods": {}})["methods"] | {method: result}
            methods = {key: methods[key] for key in {**dict.fromkeys(ORDER), **methods} if key in methods}
            results[name] = {"pairs": SETS[name].__doc__, "methods": methods}
            (arguments.output_dir / "results.json").write_text(json.dumps(results, indent=1) + "\n")
            fields = dict(np.load(fields_path)) if fields_path.exists() else {}
            fields[method] = drawing.cut(displacements[0]).astype(np.float16)
            np.savez_compressed(fields_path, **fields)
        methods, fields = read_results(arguments.output_dir)[name]["methods"], dict(np.load(fields_path))
        figure_of(name, all_pairs, fields, methods).savefig(arguments.output_dir / f"{name}.png", dpi=95)
    (arguments.output_dir / "table.md").write_text(table(read_results(arguments.output_dir)))


if __name__ == "__main__":
    main()
