"""Compares registration methods on the same pairs of MNIST digits: a table, and a figure with one row of pairs each.

  python -m experiments.compare_mnist.run --output_dir=experiments/compare_mnist \
      --run "U-Net, 0.01=runs/unet" --run "AiR, best=runs/mnist_best"

Protocol: the test part is the last 20 % of TFDS's MNIST (train, then test) in its order; the pairs are `random_pairs`
of seed 0 and, a quarter as many, `same_label_pairs` of seed 0, fixed first; scores are those of `air_jax.metrics`. Each
`--run` is a finished run's workdir. SimpleITK and ANTs (`pip install SimpleITK antspyx`) are run where installed.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import air_jax
from air_jax import metrics
from air_jax.data import load_dataset
from air_jax.data.pairs import random_pairs, same_class_pairs
from air_jax.losses import make_objective
from air_jax.optimize import BSplineField, refine
from air_jax.training.scoring import COLUMNS
from air_jax.transforms import corner_jacobian_determinant, jacobian_determinant
from air_jax.transforms.intensity import to_unit_range
from air_jax.workdir import config as configs

NUM_DRAWN_PAIRS = 10


class Method(NamedTuple):
    """A way to register.

    Attributes:
      displacements: takes fixed and moving images `[n, 28, 28, 1]`, returns the displacements `[n, 28, 28, 2]`.
      batch_size: pairs a call; None for all.
      training_seconds: what was spent before, on training pairs.
    """

    displacements: Callable[[np.ndarray, np.ndarray], np.ndarray]
    batch_size: int | None = None
    training_seconds: float = 0.0


def identity(fixed: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.zeros((*fixed.shape[:-1], 2), np.float32)


def demons(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Diffeomorphic demons, half and full resolution, 100 iterations each, smoothed with 0.5 pixels."""
    import SimpleITK

    def register(fixed, moving):
        fixed, moving = SimpleITK.GetImageFromArray(fixed), SimpleITK.GetImageFromArray(moving)
        demons = SimpleITK.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(100)
        demons.SetStandardDeviations(0.5)
        coarse = [
            SimpleITK.Shrink(SimpleITK.SmoothingRecursiveGaussian(image, 1.0), [2, 2]) for image in (fixed, moving)
        ]
        field = SimpleITK.Resample(demons.Execute(*coarse), fixed, SimpleITK.Transform(), SimpleITK.sitkLinear)
        return SimpleITK.GetArrayFromImage(demons.Execute(fixed, moving, field))[..., ::-1]  # (x, y) to (row, column)

    pairs = zip(fixed[..., 0], moving[..., 0], strict=True)
    return np.stack([register(*pair) for pair in pairs]).astype(np.float32)


def syn(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """SyN on mean squares, 200 iterations at half and 200 at full resolution, the settings of highest Dice."""
    import ants

    def register(fixed, moving):
        result = ants.registration(
            ants.from_numpy(fixed),
            ants.from_numpy(moving),
            "SyNOnly",
            initial_transform="identity",
            syn_metric="meansquares",
            reg_iterations=(200, 200),
            grad_step=0.5,
            flow_sigma=1,
            total_sigma=0,
        )
        (path,) = (path for path in result["fwdtransforms"] if path.endswith("Warp.nii.gz"))
        field = ants.image_read(path).numpy()
        for path in {*result["fwdtransforms"], *result["invtransforms"]}:
            Path(path).unlink(missing_ok=True)
        return field

    pairs = zip(fixed[..., 0], moving[..., 0], strict=True)
    return np.stack([register(*pair) for pair in pairs]).astype(np.float32)


def optimization(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """`air_jax.optimize.refine` from zero, without any model."""
    return np.asarray(refine(OBJECTIVE, fixed, moving, num_steps=300, field=BSplineField()).displacement)


OBJECTIVE = make_objective("mse", folding=5.0)


def of_run(workdir: Path, refine_steps: int = 0, num_steps: tuple[int, ...] | None = None) -> Method:
    """A trained model, and what may follow it: refinement, or other numbers of steps than it was trained with.

    It is timed without its attention weights: the displacement alone is compiled.
    """
    registration = air_jax.load(workdir)
    model = registration.model if num_steps is None else registration.model.clone(num_steps=num_steps)
    predict = jax.jit(lambda params, *images: model.apply({"params": params}, *images)[0])

    def displacements(fixed, moving):
        displacement = predict(registration.params, fixed, moving)
        if refine_steps:
            displacement = registration.refine(fixed, moving, displacement, num_steps=refine_steps).displacement
        return np.asarray(displacement)

    config = configs.read(workdir).config
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    seconds, previous = 0.0, 0
    for line in lines:
        if "pairs_per_second" in line:
            seconds += (line["step"] - previous) * config.batch_size / line["pairs_per_second"]
            previous = line["step"]
    return Method(displacements, batch_size=250, training_seconds=seconds)


def measure(method: Method, fixed: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, float]:
    """Displacements of all pairs, and the seconds a pair took, compilation excluded."""
    size = min(method.batch_size or len(fixed), len(fixed))
    order = np.resize(np.arange(len(fixed)), -(-len(fixed) // size) * size)  # fills the last batch up
    if method.batch_size:
        method.displacements(fixed[:size], moving[:size])
    start = time.perf_counter()
    batches = [method.displacements(fixed[batch], moving[batch]) for batch in order.reshape(-1, size)]
    return np.concatenate(batches)[: len(fixed)], (time.perf_counter() - start) / len(order)


def scores(fixed: np.ndarray, moving: np.ndarray, displacement: np.ndarray) -> dict[str, float]:
    """Mean scores over pairs; a pair without any foreground has no Dice and is left out of it."""
    warped = air_jax.warp(moving, displacement)
    values = metrics.image_scores(fixed, warped) | metrics.displacement_scores(jnp.asarray(displacement))
    return {name: float(np.nanmean(value)) for name, value in values.items()}


def figure_of(fixed: np.ndarray, moving: np.ndarray, displacements: dict[str, np.ndarray]) -> Figure:
    """Moving and fixed images, then each method's warped images; red where it folds, orange where any corner does."""
    rows = {"moving": moving, "fixed": fixed}
    rows |= {name: np.asarray(air_jax.warp(moving, field)) for name, field in displacements.items()}
    figure = Figure(figsize=(1.0 * len(fixed) + 2.6, 1.03 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(fixed))
    for row, (name, images) in enumerate(rows.items()):
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for column, axis in enumerate(axes[row]):
            axis.imshow(images[column, ..., 0], cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if name in displacements:
                field = jnp.asarray(displacements[name][column : column + 1])
                corner, central = corner_jacobian_determinant(field)[0] <= 0, jacobian_determinant(field)[0] <= 0
                colors = np.zeros((*fixed.shape[1:3], 4))
                colors[1:-1, 1:-1][np.asarray(corner)] = (1.0, 0.69, 0.0, 0.8)
                colors[1:-1, 1:-1][np.asarray(central)] = (0.84, 0.15, 0.16, 0.9)
                axis.imshow(colors)
    return figure


def frontier_figure(rows: dict[str, dict]) -> Figure:
    """Dice against folding, central differences (filled) and any corner (open): the best place is at the top left."""
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axis = figure.subplots()
    for index, (name, row) in enumerate(rows.items()):
        scores, color = row["random_pairs"], f"C{index % 10}"
        if name == "unregistered":
            continue
        folding = [scores["folding_percent"], scores["any_corner_folding_percent"]]
        axis.plot(folding, [scores["dice"]] * 2, color=color, lw=0.8)
        axis.scatter(folding[0], scores["dice"], color=color, label=name, marker="os^D"[index // 10])
        axis.scatter(
            folding[1], scores["dice"], edgecolors=color, facecolors="white", marker="os^D"[index // 10], zorder=3
        )
    axis.set_xscale("symlog", linthresh=0.01)
    axis.set(xlabel="folding (%): central differences (filled), any corner (open)", ylabel="Dice, random test pairs")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def table(rows: dict[str, dict]) -> str:
    """The scores as a Markdown table."""
    scored = {key: title for key, title in COLUMNS.items() if "endpoint" not in key}  # the true fields are not known
    head = ["method", *scored.values(), "same-digit Dice", "ms a pair", "training"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, row in rows.items():
        values = [f"{row['random_pairs'][key]:.{4 if key == 'mse' else 3}f}" for key in scored]
        values.append(f"{row['same_label_pairs']['dice']:.3f}")
        values.append(f"{1e3 * row['seconds_per_pair']:.3g}" if row["seconds_per_pair"] else "")
        values.append(f"{row['training_seconds'] / 60:.1f} min" if row["training_seconds"] else "")
        lines.append("| " + " | ".join([name, *values]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", default=[], metavar="NAME=WORKDIR", help="a finished run; repeatable")
    parser.add_argument("--refine", default=None, metavar="NAME", help="the run that is refined on each pair as well")
    parser.add_argument("--refine_steps", type=int, default=150)
    parser.add_argument(
        "--num_steps", type=int, nargs="+", help="that run again, with other steps a level than trained"
    )
    parser.add_argument("--runs_only", action="store_true", help="leave out the methods that need no training")
    parser.add_argument("--num_pairs", type=int, default=1_000)
    parser.add_argument("--dataset", default="mnist", help="or digits, with the models that were trained on MNIST")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    parser.add_argument("--output_dir", type=Path, required=True)
    arguments = parser.parse_args()

    if not all("=" in run for run in arguments.run):
        parser.error("--run must be NAME=WORKDIR")
    if arguments.refine and arguments.refine not in {run.rsplit("=", 1)[0] for run in arguments.run}:
        parser.error(f"--refine={arguments.refine}: no --run has that name")

    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")  # faster than more on 28 x 28 pixels
    methods = {"unregistered": Method(identity)}
    classical = (("demons", "SimpleITK", demons), ("SyN", "ants", syn))
    for name, package, function in () if arguments.runs_only else classical:
        try:
            __import__(package)
            methods[f"{name} ({package})"] = Method(function)
        except ModuleNotFoundError:
            print(f"{name}: {package} is not installed, so it is left out", flush=True)
    if not arguments.runs_only:
        methods["optimisation from zero, 300 steps"] = Method(optimization, batch_size=250)
    for run in arguments.run:
        name, workdir = run.rsplit("=", 1)
        methods[name] = of_run(Path(workdir))
        if name == arguments.refine and arguments.num_steps:
            deeper = f"{name}, {'-'.join(map(str, arguments.num_steps))} steps"
            methods[deeper] = of_run(Path(workdir), num_steps=tuple(arguments.num_steps))
        if name == arguments.refine:
            refined = f"{name} + {arguments.refine_steps} steps of refinement"
            methods[refined] = of_run(Path(workdir), arguments.refine_steps)

    test = load_dataset(arguments.dataset, train_fraction=0.8, num_validation=200).test
    pairs = {
        "random_pairs": random_pairs(arguments.seed, len(test), arguments.num_pairs),
        "same_label_pairs": same_class_pairs(arguments.seed, test.classes, arguments.num_pairs // 4),
    }
    images = {
        key: [np.asarray(to_unit_range(jnp.asarray(test.images[indices[:, side]]))) for side in (0, 1)]
        for key, indices in pairs.items()
    }
    rows, drawn = {}, {}
    for name, method in methods.items():
        row = {"training_seconds": method.training_seconds}
        for key, (fixed, moving) in images.items():
            displacement, seconds = measure(method, fixed, moving)
            row[key] = scores(fixed, moving, displacement)
            if key == "random_pairs":
                row["seconds_per_pair"] = 0.0 if name == "unregistered" else seconds
                drawn[name] = displacement[:NUM_DRAWN_PAIRS]
        rows[name] = row
        print(table({name: row}).splitlines()[-1], flush=True)

    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    report = {
        "dataset": arguments.dataset,
        "num_pairs": arguments.num_pairs,
        "pairs_seed": arguments.seed,
        "machine": f"{platform.machine()}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
        "methods": rows,
    }
    (arguments.output_dir / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.output_dir / "table.md").write_text(table(rows) + "\n")
    fixed, moving = (image[:NUM_DRAWN_PAIRS] for image in images["random_pairs"])
    figure_of(fixed, moving, drawn).savefig(arguments.output_dir / "pairs.png", dpi=130)
    frontier_figure(rows).savefig(arguments.output_dir / "frontier.png", dpi=130)
    print(table(rows))


if __name__ == "__main__":
    main()
