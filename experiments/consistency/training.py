"""Trains with gradient inverse consistency by the exact derivative and by forward differences, and counts folds.

  python -m experiments.consistency.training --output_dir=experiments/consistency

AiR as in the paper with its dense head, which folds in a third of the pixels without a regularizer, on digits
(`configs/digits.py`): once without the term, and with each form at each weight. All runs have the same seed and pairs.
Their folders are temporary.
"""

import argparse
import json
import platform
import tempfile
from functools import partial
from pathlib import Path

import jax
import numpy as np

from air_jax.losses import CONSISTENCIES
from air_jax.training.run import train
from configs import digits
from experiments.consistency.derivatives import gradient_inverse_consistency_differences

KEY = "gradient_inverse_consistency"  # of the config's section `loss`
# Steps of the differences in pixels: small, and 0.001 of the ICON package's unit on 128 pixels.
TERMS = {
    "exact": CONSISTENCIES[KEY],
    "short_differences": partial(gradient_inverse_consistency_differences, step=0.001),
    "long_differences": partial(gradient_inverse_consistency_differences, step=0.128),
}


def run(workdir: Path, name: str | None, weight: float, num_steps: int) -> dict:
    """Trains with one of `TERMS`, or none; returns its scores and speed."""
    config = digits.get_config()
    config.model.head = "dense"
    config.num_train_steps = num_steps
    config.loss[KEY] = weight
    CONSISTENCIES[KEY] = TERMS[name or "exact"]
    scores = train(config, workdir)["random_pairs"]["after"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["pairs_per_second"] for line in lines if "loss" in line and "seconds_to_compile_and_run" not in line]
    kept = ("dice", "mse", "folding_percent", "any_corner_folding_percent")
    return {key: scores[key] for key in kept} | {"pairs_per_second": float(np.median(speeds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_steps", type=int, default=2_000)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.003, 0.03])
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for weight in (0.0, *arguments.weights):
            for name in TERMS if weight else (None,):
                workdir = Path(folder) / str(len(rows))
                rows.append({"term": name, "weight": weight} | run(workdir, name, weight, arguments.num_steps))
    report = {
        "machine": f"{platform.machine()}, {jax.local_device_count()} x {jax.devices()[0].device_kind}, "
        f"jax {jax.__version__}",
        "num_steps": arguments.num_steps,
        "runs": rows,
    }
    (arguments.output_dir / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    print("| term | weight | Dice | MSE | folding % | any corner % | pairs/s |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['term'] or 'none'} | {row['weight']:g} | {row['dice']:.3f} | {row['mse']:.4f} | "
            f"{row['folding_percent']:.2f} | {row['any_corner_folding_percent']:.2f} | {row['pairs_per_second']:,.0f} |"
        )


if __name__ == "__main__":
    main()
