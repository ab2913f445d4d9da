"""Compares registration methods on the same real pairs: classical tools, our optimisation from zero, trained networks.

  python experiments/compare_real.py --data=FOLDER --output_dir=experiments/compare_real \
      --workdir_cardiac=runs/cardiac --workdir_hippocampus=runs/hippocampus

`FOLDER` holds `acdc_ed_es/acdc_2d_mid_128.npz` (ACDC, end-diastole and end-systole), `hippocampus_msd/
hippocampus_48x64x48.npz` (Medical Segmentation Decathlon, task 4) and `brains_synthseg/brains20_2mm.npz` (label maps of
SynthSeg, synthetic images). Classical tools need `pip install SimpleITK antspyx`; their settings and those from zero
were chosen on training pairs. `--sets` and `--methods` run a part; each result goes into `<output_dir>/<set>.json`
beside those that are there, and the table and the figures are drawn from all of them.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from classical import SETTINGS, TOOLS, machine, one_by_one
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from register_real import CARDIAC, HIPPOCAMPUS, HIPPOCAMPUS_OPTIONS, from_zero

import air_jax
from air_jax import metrics
from air_jax.data.pairs import random_pairs
from air_jax.losses import Objective, make_objective
from air_jax.transforms import sample, warp
from air_jax.transforms.intensity import normalize

BRAINS = make_objective("lncc", window=5)


class Pairs(NamedTuple):
    """Images in [0, 1] and labels of `n` pairs, `[n, *S]` each."""

    fixed: np.ndarray
    moving: np.ndarray
    fixed_labels: np.ndarray
    moving_labels: np.ndarray


class Ours(NamedTuple):
    """How a set is registered from zero: its objective, in `words`, options, steps; how a network's pass is refined."""

    objective: Objective
    words: str
    options: dict
    num_steps: int
    batch_size: int
    refine_steps: int = 90


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
ORDER = ("before", *TOOLS, "air_jax from zero")  # of the rows; networks follow
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


def network(
    workdir: Path, trained: bool, refine_steps: int, batch_size: int, *images: np.ndarray
) -> tuple[np.ndarray, dict]:
    registration = air_jax.load(workdir)
    if not trained:
        image = jnp.zeros((1, *registration.image_shape))
        params = jax.jit(registration.model.init)(jax.random.key(0), image, image)["params"]
        registration = dataclasses.replace(registration, params=params)
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
    """What can be run on a set: functions of the pairs, and their settings as they are written down."""
    ours = OURS[name]
    methods = {"before": (unregistered, {})}
    for method, settings in SETTINGS[name].items():
        methods[method] = partial(one_by_one, method, settings), {"threads": arguments.threads} | settings
    written = {"objective": ours.words, "num_steps": ours.num_steps, "batch_size": ours.batch_size}
    register = partial(from_zero, ours.objective, ours.options, ours.num_steps)
    written |= {"field": "dense"} | ours.options
    methods["air_jax from zero"] = partial(in_batches, register, ours.batch_size), written
    for title, key in (("AiR", name), ("AiR with labels", f"{name}_labels")):
        if workdir := getattr(arguments, f"workdir_{key}", None):
            stages = {"untrained": 0, "one pass": 0, "refined": getattr(arguments, f"refine_steps_{name}")}
            for stage, steps in stages.items():
                written = {"workdir": workdir.name, "refine_steps": steps, "batch_size": ours.batch_size}
                run = partial(network, workdir, stage != "untrained", steps, ours.batch_size)
                methods[f"{title}, {stage}"] = run, written
    return methods


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
    figure = Figure(figsize=(2.1 * (1 + len(columns)), 2 * (2.1 * ratio + 0.4) + 0.5), layout="constrained")
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
        top.set_title(f"{method}\nDice {results[method]['dice_of_pairs'][0]:.3f}", fontsize=9)
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


def table(folder: Path) -> str:
    head = ["set", "method", "pairs", *(title for title, _ in COLUMNS.values())]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in SETS:
        path = folder / f"{name}.json"
        for method, result in (json.loads(path.read_text())["methods"] if path.exists() else {}).items():
            values = [format(result[key], style) if key in result else "" for key, (_, style) in COLUMNS.items()]
            lines.append("| " + " | ".join([name, method, str(result["num_pairs"]), *values]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="*", help="by their names in the table; default: all that can be run")
    parser.add_argument("--num_pairs", type=int, help="only the first of each set; the table tells how many")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the classical tools")
    for name in SETS:
        parser.add_argument(f"--workdir_{name}", type=Path, help="of a finished run")
        parser.add_argument(f"--refine_steps_{name}", type=int, default=OURS[name].refine_steps)
        parser.add_argument(f"--workdir_{name}_labels", type=Path, help="of a run that was trained with labels")
    arguments = parser.parse_args()

    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(arguments.threads)  # read when the tools are imported
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name in arguments.sets:
        all_pairs, drawing = SETS[name](arguments.data), DRAWINGS[name]
        pairs = Pairs(*(side[: arguments.num_pairs] for side in all_pairs))
        path, fields_path = (arguments.output_dir / f"{name}.{suffix}" for suffix in ("json", "npz"))
        for method, (run, settings) in methods_of(name, arguments).items():
            if arguments.methods and method not in arguments.methods:
                continue
            load = os.getloadavg()[0]
            displacements, timing = run(pairs.fixed, pairs.moving)
            result = scores(pairs, displacements) | timing | {"settings": settings, "machine": machine()}
            result["other_load"] = f"load average {load:.1f} before and {os.getloadavg()[0]:.1f} after"
            print(name, method, {key: value for key, value in result.items() if isinstance(value, float)}, flush=True)
            # Read now, and not at the start: another process may have run another method meanwhile.
            results = (json.loads(path.read_text())["methods"] if path.exists() else {}) | {method: result}
            results = {key: results[key] for key in {**dict.fromkeys(ORDER), **results} if key in results}
            path.write_text(json.dumps({"pairs": SETS[name].__doc__, "methods": results}, indent=1) + "\n")
            fields = dict(np.load(fields_path)) if fields_path.exists() else {}
            fields[method] = drawing.cut(displacements[0]).astype(np.float16)
            np.savez_compressed(fields_path, **fields)
        results, fields = json.loads(path.read_text())["methods"], dict(np.load(fields_path))
        figure_of(name, all_pairs, fields, results).savefig(path.with_suffix(".png"), dpi=95)
    (arguments.output_dir / "table.md").write_text(table(arguments.output_dir))


if __name__ == "__main__":
    main()
