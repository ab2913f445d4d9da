"""What the paper could not afford: AiR's quality against blocks, width, heads and patch size, on MNIST.

  python -m experiments.sweep_mnist.run --output_dir=experiments/sweep_mnist

Each point is configs/mnist.py with the keys that `VARIANTS` names, trained for --num_train_steps; scores are those of
the 1,000 random test pairs. The runs stay in --runs, so that a sweep that was stopped goes on where it was.
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from air_jax.data import Dataset, load_dataset
from air_jax.training.run import train
from air_jax.workdir import config as configs
from configs import mnist

BLOCKS = (1, 2, 3, 4, 6)
# By name of the swept quantity: the values, and the keys of config.model that each value stands for.
VARIANTS = {
    "blocks, own weights": (BLOCKS, lambda n: {"encoder_depth": n, "decoder_depth": n}),
    "blocks, one set of weights": (BLOCKS, lambda n: {"encoder_depth": n, "decoder_depth": n, "recursive": n > 1}),
    "width": ((8, 16, 32, 64), lambda n: {"width": n}),
    "heads": ((1, 2, 4, 8), lambda n: {"num_heads": n}),
    "patch size (pixels)": ((4, 7, 14), lambda n: {"patch_size": n}),
}


def run(options: dict, num_train_steps: int, folder: Path, dataset: Dataset) -> dict:
    """Trains configs/mnist.py with other model options, unless it was done before; returns its scores."""
    config = mnist.get_config()
    config.num_train_steps = num_train_steps
    config.update({"model": options})
    base = mnist.get_config().model
    changed = {key: value for key, value in options.items() if value != base[key]}
    workdir = folder / ("_".join(f"{key}={value}" for key, value in changed.items()) or "paper")
    done = (workdir / "eval.json").exists() and configs.read(workdir).config.num_train_steps == num_train_steps
    if not done:
        print(f"---- {workdir.name}", flush=True)
        train(config, workdir, dataset=dataset)
    return json.loads((workdir / "eval.json").read_text()) | {"workdir": workdir.name, "model": changed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweep_mnist"))
    parser.add_argument("--num_train_steps", type=int, default=1_500)
    arguments = parser.parse_args()
    dataset = load_dataset(**mnist.get_config().dataset)
    points = {
        name: [(value, run(options(value), arguments.num_train_steps, arguments.runs, dataset)) for value in values]
        for name, (values, options) in VARIANTS.items()
    }
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "results.json").write_text(json.dumps(points, indent=2) + "\n")

    panels = {"blocks": ["blocks, own weights", "blocks, one set of weights"]}
    panels |= {name: [name] for name in VARIANTS if not name.startswith("blocks")}
    figure = Figure(figsize=(3.1 * len(panels), 4.6), layout="constrained")
    axes = figure.subplots(2, len(panels), sharey="row")
    for column, (title, names) in enumerate(panels.items()):
        for name in names:
            values = [value for value, _ in points[name]]
            for row, key in enumerate(("dice", "folding_percent")):
                scores = [report["random_pairs"]["after"][key] for _, report in points[name]]
                label = name.removeprefix("blocks, ") if len(names) > 1 else None
                axes[row, column].plot(values, scores, marker="o", label=label)
        axes[1, column].set_xlabel(title)
        for axis in axes[:, column]:
            axis.grid(alpha=0.3)
            axis.set_xscale("log", base=2)
            axis.set_xticks(values, map(str, values), minor=False)
    axes[0, 0].legend(fontsize=8, frameon=False)
    axes[0, 0].set_ylabel("Dice, random test pairs")
    axes[1, 0].set_ylabel("folding (%)")
    figure.savefig(arguments.output_dir / "sweep.png", dpi=130)


if __name__ == "__main__":
    main()
