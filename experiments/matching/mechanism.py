"""What matching can reach on the hippocampus with the true classes as features, by its grids and its smoothing.

  python -m experiments.matching.mechanism --data=FOLDER --output_dir=experiments/matching

The steps are those of `MatchingUNet`; its tokens are the classes of both segmentations, averaged onto each grid. The
temperature is 30, and all offsets have the same bias. This is no registration method: it reads the segmentations that
are scored. 40 pairs of the last 10 training subjects.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.losses import one_hot
from air_jax.models import MatchingUNet
from air_jax.transforms import bspline
from air_jax.transforms.filters import shrink
from experiments.compare_real.run import scores
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
}


class ClassMatching(MatchingUNet):
    """The steps of `MatchingUNet` on given classes. With `finest` of 2, the voxels' grid has no steps."""

    def _tokens(self, images: jax.Array) -> list[tuple[int, jax.Array]]:
        factors = [2**power for power in reversed(range(len(self.width)))]
        shape = images.shape[1:-1]
        return [(factor, shrink(images, tuple(size // factor for size in shape))) for factor in factors]


def displacements(labels: tuple[np.ndarray, np.ndarray], steps: tuple[int, ...], finest: int, *sigmas: float):
    """Displacements `[n, *S, 3]` of pairs of segmentations."""
    vote_sigma, total_sigma = sigmas
    sides = [one_hot(jnp.asarray(side), (0, 1, 2)) for side in labels]
    if finest == 2:  # tokens of 2 voxels are the voxels of images of half the size
        sides = [shrink(side, tuple(size // 2 for size in side.shape[1:-1])) for side in sides]
    ones = (1,) * len(steps)
    model = ClassMatching(
        num_steps=steps, radius=ones, width=ones, vote_sigma=vote_sigma, total_sigma=total_sigma, features=(1,) * 4
    )
    variables = jax.jit(model.init)(jax.random.key(0), *(side[:1] for side in sides))
    for level in variables["params"].values():
        level["bias"], level["log_temperature"] = jnp.zeros_like(level["bias"]), jnp.full(1, jnp.log(TEMPERATURE))
    register = jax.jit(lambda fixed, moving: model.apply(variables, fixed, moving)[0])
    batches = [slice(start, start + BATCH_SIZE) for start in range(0, len(sides[0]), BATCH_SIZE)]
    found = np.concatenate([np.asarray(register(*(side[batch] for side in sides))) for batch in batches])
    return found if finest == 1 else upsampled(found, labels[0].shape[1:])


def upsampled(displacement: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The B-spline with a control vector for every 2 voxels, as `MatchingUNet` takes it from such a grid."""
    return 2 * np.asarray(bspline(jnp.asarray(displacement), (2,) * len(shape), shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of mechanism.json and mechanism.md")
    arguments = parser.parse_args()
    pairs, rows = training_part(arguments.data, "hippocampus"), []
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
