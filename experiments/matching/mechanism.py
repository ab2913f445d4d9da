"""Measures the Dice of matching with the true classes as features, for several grids and smoothings, hippocampus.

  python -m experiments.matching.mechanism --data=FOLDER --output_dir=experiments/matching

The steps are those of `MatchingUNet`, untrained; its tokens are the classes of both segmentations, averaged onto each
grid. Distances are sums over the three classes, the temperature is 30, and all offsets have the same bias. This is no
registration method: it reads the segmentations that are scored. 40 random pairs (seed 0) of the last 10 training
subjects.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.losses import one_hot
from air_jax.models import MatchingUNet
from air_jax.models.layers.level_state import on_grid
from air_jax.transforms.filters import shrink
from experiments.compare_real.run import scores, unregistered
from experiments.matching.run import training_part
from experiments.tables import score_table

BATCH_SIZE = 10
TEMPERATURE = 30.0
SETTINGS = (  # steps on each grid, coarse to fine; voxels of the last grid's tokens; vote_sigma and total_sigma
    ((3, 3, 3), 2, 1.0, 0.5),
    ((3, 3, 6), 2, 1.0, 0.5),
    ((3, 3, 3), 2, 0.5, 0.25),
    ((3, 3, 3, 3), 1, 1.0, 0.5),
    ((3, 3, 3, 1), 1, 0.5, 0.25),
    ((3, 3, 3, 3), 1, 0.5, 0.25),
    ((2, 2, 2, 2), 1, 0.5, 0.25),
)
COLUMNS = {
    "dice": ("Dice", ".3f"),
    "any_corner_folding_percent": ("any corner %", ".3f"),
    "sd_log_jacobian": ("SD log J", ".3f"),
    "compressed_percent": ("below 0.3, %", ".1f"),
}


class ClassMatching(MatchingUNet):
    """The steps of `MatchingUNet` on classes instead of features."""

    def _tokens(self, images: jax.Array) -> list[jax.Array]:
        factors = [2**power for power in reversed(range(len(self.width)))]
        return [shrink(images, tuple(size // factor for size in images.shape[1:-1])) for factor in factors]


def displacements(
    labels: tuple[np.ndarray, np.ndarray], steps: tuple[int, ...], finest: int, vote_sigma: float, total_sigma: float
) -> np.ndarray:
    """Displacements `[n, *S, 3]` of pairs of segmentations."""
    shape, ones = labels[0].shape[1:], (1,) * len(steps)
    # Tokens of 2 voxels are the voxels of images of half the size.
    grid = tuple(size // finest for size in shape)
    sides = [shrink(one_hot(jnp.asarray(side), (0, 1, 2)), grid) for side in labels]
    features = (1,) * (len(steps) - 1)  # they say how many grids there can be
    model = ClassMatching(features, steps, ones, ones, vote_sigma=vote_sigma, total_sigma=total_sigma)
    variables = jax.jit(model.init)(jax.random.key(0), *(side[:1] for side in sides))
    for level in variables["params"].values():
        level["bias"], level["log_temperature"] = jnp.zeros_like(level["bias"]), jnp.full(1, jnp.log(TEMPERATURE))
    register = jax.jit(lambda fixed, moving: on_grid(model.apply(variables, fixed, moving)[0], shape))
    batches = [slice(start, start + BATCH_SIZE) for start in range(0, len(labels[0]), BATCH_SIZE)]
    return np.concatenate([np.asarray(register(*(side[batch] for side in sides))) for batch in batches])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of mechanism.json and mechanism.md")
    arguments = parser.parse_args()
    pairs = training_part(arguments.data, "hippocampus")
    rows = [(("before", "", "", ""), scores(pairs, unregistered(pairs.fixed, pairs.moving)[0]))]
    for steps, finest, vote_sigma, total_sigma in SETTINGS:
        found = displacements((pairs.fixed_labels, pairs.moving_labels), steps, finest, vote_sigma, total_sigma)
        names = "-".join(map(str, steps)), f"{finest}", f"{vote_sigma:g}", f"{total_sigma:g}"
        rows.append((names, scores(pairs, found)))
        print(*names, {key: round(rows[-1][1][key], 4) for key in COLUMNS}, flush=True)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "mechanism.json").write_text(json.dumps(rows, indent=1) + "\n")
    head = ("steps", "finest tokens, voxels", "vote_sigma", "total_sigma")
    (arguments.output_dir / "mechanism.md").write_text(score_table(head, rows, COLUMNS))


if __name__ == "__main__":
    main()
