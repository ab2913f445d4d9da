"""Cost against size: time and memory of a step against batch, image size, tokens and blocks.

  python -m experiments.benchmark.sizes

Loss and gradient of AiR (the paper's width and heads, control-grid head), without an optimiser, on one device; the time
is the median of `--repeats` calls after two that are not timed, the memory XLA's own analysis of the temporary arrays.
Figures stand in `results/sizes.json` and `results/sizes.png`.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from air_jax import AiR, warp
from air_jax.losses import mse_loss
from experiments.benchmark import machine

# By name of what is varied: the values, and the batch size, image size and model options that each stands for.
VARIED = {
    "pairs (28 x 28 pixels, 16 tokens)": ([2**n for n in range(13)], lambda n: (n, 28, {"patch_size": 7})),
    "pixels (8 pairs, 16 tokens)": (
        [size**2 for size in (28, 56, 112, 224, 448, 896)],
        lambda n: (8, math.isqrt(n), {"patch_size": math.isqrt(n) // 4}),
    ),
    "tokens (8 pairs, 112 x 112 pixels)": (
        [16, 64, 196, 256, 784, 3136],
        lambda n: (8, 112, {"patch_size": 112 // math.isqrt(n)}),
    ),
    "tokens, flash attention (8 pairs, 112 x 112 pixels)": (
        [16, 64, 196, 256, 784, 3136],
        lambda n: (8, 112, {"patch_size": 112 // math.isqrt(n), "flash_attention": True}),
    ),
    "blocks (128 pairs, 28 x 28 pixels, 16 tokens)": (
        [1, 2, 3, 4, 6, 8],
        lambda n: (128, 28, {"patch_size": 7, "encoder_depth": n, "decoder_depth": n}),
    ),
}


def measure(batch_size: int, size: int, options: dict, repeats: int) -> dict[str, float]:
    """Seconds, and bytes of temporary arrays, of one loss and its gradient."""
    model = AiR(**options)
    fixed, moving = jax.random.uniform(jax.random.key(0), (2, batch_size, size, size, 1))
    variables = jax.jit(model.init)(jax.random.key(1), fixed[:1], moving[:1])

    def loss(variables, fixed, moving):
        displacement, _ = model.apply(variables, fixed, moving)
        return jnp.mean(mse_loss(fixed, warp(moving, displacement)))

    step = jax.jit(jax.value_and_grad(loss)).lower(variables, fixed, moving).compile()
    seconds = []
    for _ in range(2 + repeats):
        start = time.perf_counter()
        jax.block_until_ready(step(variables, fixed, moving))
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[2:]), "bytes": step.memory_analysis().temp_size_in_bytes}


def draw(found: dict[str, list]) -> Figure:
    """Time above, memory below; a dotted line is proportional to the quantity."""
    figure = Figure(figsize=(4 * len(found), 6.5), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for column, (name, points) in enumerate(found.items()):
        values = [value for value, _ in points]
        for row, (key, unit, scale) in enumerate([("seconds", "ms a step", 1e3), ("bytes", "MiB", 2**-20)]):
            axis = axes[row, column]
            costs = [scale * point[key] for _, point in points]
            axis.loglog(values, costs, "o-")
            axis.loglog(values, [costs[-1] * value / values[-1] for value in values], "k:", linewidth=0.8)
            axis.set_xticks(values, map(str, values), rotation=90)
            axis.minorticks_off()
            axis.set_ylabel(unit)
            axis.grid(alpha=0.3)
        axes[0, column].set_title(name, fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    found = {}
    for name, (values, of) in VARIED.items():
        found[name] = []
        print(name, flush=True)
        for value in values:
            point = measure(*of(value), arguments.repeats)
            found[name].append((value, point))
            print(f"  {value:6,}: {1e3 * point['seconds']:9.2f} ms, {point['bytes'] / 2**20:9.1f} MiB", flush=True)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.describe(), "points": found}
    (arguments.output_dir / "sizes.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(found).savefig(arguments.output_dir / "sizes.png", dpi=120)
    print(arguments.output_dir / "sizes.png")


if __name__ == "__main__":
    main()
