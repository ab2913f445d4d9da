"""Ten weights of a regulariser in one compiled program: overlap against folding, on digits or on any images.

  python -m experiments.regularization_sweep.run [--alone] [--plot sweep.png]

The program is `jax.vmap` of a registration over the weight. With `--alone` each weight is also registered by a program
of its own, as it is where the weight is a constant, and both times are shown.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import metrics, warp
from air_jax.data.digits import load
from air_jax.losses import make_objective
from air_jax.optimize import DenseField, refine

WEIGHTS = np.geomspace(1e-3, 3.0, 10).astype(np.float32)
FIELD = DenseField(levels=(2, 1), update_sigma=1.0, total_sigma=0.0)


def pairs(count: int) -> tuple[jax.Array, jax.Array]:
    """Pairs of digits of the same class, `[B, 16, 16, 1]` in [0, 1], in an order drawn once."""
    source = load().images
    images, labels = np.asarray(source.images, np.float32) / 255, np.asarray(source.classes)
    images = np.asarray(jax.image.resize(images, (len(images), 16, 16, 1), "linear"))
    order = np.random.default_rng(0).permutation(len(images))
    fixed = order[:count]
    moving = [next(other for other in order[count:] if labels[other] == labels[index]) for index in fixed]
    return jnp.asarray(images[fixed]), jnp.asarray(images[np.array(moving)])


def scores(weight: float | jax.Array, fixed: jax.Array, moving: jax.Array, num_steps: int) -> dict[str, jax.Array]:
    """Mean Dice of the foregrounds and mean folding of all pairs."""
    objective = make_objective("mse", diffusion=weight)
    displacement = refine(objective, fixed, moving, num_steps=num_steps, field=FIELD).displacement
    dice = metrics.mask_dice(fixed, warp(moving, displacement))
    return {"dice": jnp.nanmean(dice), "folding_percent": jnp.mean(metrics.folding_percent(displacement))}


def together(fixed: jax.Array, moving: jax.Array, num_steps: int) -> dict[str, jax.Array]:
    """The scores of all weights, `[10]` each, by one program."""
    return jax.jit(jax.vmap(lambda weight: scores(weight, fixed, moving, num_steps)))(WEIGHTS)


def alone(fixed: jax.Array, moving: jax.Array, num_steps: int) -> dict[str, jax.Array]:
    """The scores of all weights, by a program for each."""
    found = [
        jax.jit(lambda fixed, moving, weight=float(weight): scores(weight, fixed, moving, num_steps))(fixed, moving)
        for weight in WEIGHTS
    ]
    return jax.tree.map(lambda *values: jnp.stack(values), *found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--alone", action="store_true", help="also register with a program for each weight")
    parser.add_argument("--plot", type=Path, default=None, help="PNG file of Dice against folding")
    given = parser.parse_args()
    images = pairs(given.pairs)
    for sweep in (together, alone) if given.alone else (together,):
        start, compiled = time.perf_counter(), len(PROGRAMS)
        found = jax.block_until_ready(sweep(*images, given.steps))
        print(f"{sweep.__name__}: {time.perf_counter() - start:.1f} s, {len(PROGRAMS) - compiled} programs compiled")
    for weight, dice, folding in zip(WEIGHTS, found["dice"], found["folding_percent"], strict=True):
        print(f"diffusion {weight:.4f}: Dice {dice:.3f}, folding {folding:.2f} %")
    if given.plot:
        plot(found, given.plot)


def plot(found: dict[str, jax.Array], path: Path) -> None:
    """Draws Dice against folding, a point for each weight."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(found["folding_percent"], found["dice"], "o-")
    for weight, x, y in zip(WEIGHTS, found["folding_percent"], found["dice"], strict=True):
        axes.annotate(f"{weight:.2g}", (float(x), float(y)), (5, -11), textcoords="offset points", fontsize=8)
    axes.margins(x=0.1)
    axes.set(xlabel="folding, % of voxels", ylabel="Dice", title="weight of the diffusion regulariser")
    figure.savefig(path)


PROGRAMS: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **__: PROGRAMS.append(event) if event.endswith("/backend_compile_duration") else None
)

if __name__ == "__main__":
    main()
