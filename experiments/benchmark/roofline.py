"""Roofline of one CPU core: FLOPs and bytes of pieces of work against what the core reaches at most.

  python -m experiments.benchmark.roofline [--works warp refine ...] [--output results/roofline.json]

The process keeps to one core and one thread. Times are CPU times, the smallest of `REPEATS` calls, so other work on the
machine changes them little. FLOPs and bytes are those of the compiled program, by XLA's cost analysis: bytes are what
all kernels read and write, as if no cache kept anything between two kernels. The analysis counts the body of a loop
once, so for it the sampler takes all points at once. `least_bytes` are the program's arguments and results.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

FOLDER = Path(__file__).resolve().parent / "results"
REPEATS = 10
WARP_SHAPE, REFINE_SHAPE = (96, 112, 96), (48, 64, 48)
Work = tuple[Callable, tuple]  # a function, and its arguments


def train_step(name: str, batch_size: int) -> Work:
    """Loss, gradient and Adam of a config's step, on pairs that are at hand."""
    import importlib

    import optax

    from air_jax import warp
    from air_jax.workdir.recipe import build_model, training_objective

    config = importlib.import_module(f"configs.{name}").get_config()
    model, objective, optimizer = build_model(config.model), training_objective(config), optax.adam(1e-3)
    rng = np.random.default_rng(0)
    fixed, moving = (jnp.asarray(rng.random((batch_size, 28, 28, 1), dtype=np.float32)) for _ in range(2))
    params = jax.jit(model.init)(jax.random.key(0), fixed[:1], moving[:1])["params"]

    def step(params, state, fixed, moving):
        def loss(params):
            displacement, _ = model.apply({"params": params}, fixed, moving)
            return jnp.mean(objective(fixed, warp(moving, displacement), displacement)[0])

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    return step, (params, optimizer.init(params), fixed, moving)


def warping(kind: str) -> Work:
    """A warp of one volume, with one gradient unless `kind` is `forward`."""
    from air_jax import warp
    from experiments.benchmark.works import warp_inputs

    volume, displacement, cotangent = map(jnp.asarray, warp_inputs(1, WARP_SHAPE))
    argument = {"forward": None, "coordinates": 1, "image": 0}[kind]

    def function(volume, displacement, cotangent):
        if argument is None:
            return warp(volume, displacement)
        arguments = [volume, displacement]

        def of_one(value):
            arguments[argument] = value
            return warp(*arguments)

        value, vjp = jax.vjp(of_one, arguments[argument])
        return value, vjp(cotangent)

    return function, (volume, displacement, cotangent)


def refinement(num_steps: int = 1) -> Work:
    """Steps of instance optimisation of one pair of volumes on the finest grid."""
    from air_jax.losses import make_objective
    from air_jax.optimize import DenseField, refine

    objective, rng = make_objective("lncc", diffusion=0.1), np.random.default_rng(0)
    fixed, moving = (jnp.asarray(rng.random((1, *REFINE_SHAPE, 1), dtype=np.float32)) for _ in range(2))
    return (
        lambda fixed, moving: (
            refine(objective, fixed, moving, num_steps=num_steps, field=DenseField(levels=(1,))).displacement
        ),
        (fixed, moving),
    )


WORKS: dict[str, Callable[[], Work]] = {
    "train step, configs/mnist.py, batch 128": lambda: train_step("mnist", 128),
    "train step, configs/mnist_best.py, batch 16": lambda: train_step("mnist_best", 16),
    "refine, one step, 48x64x48, lncc": refinement,
    "warp 96x112x96: forward": lambda: warping("forward"),
    "warp 96x112x96: with gradient to coordinates": lambda: warping("coordinates"),
    "warp 96x112x96: with gradient to image": lambda: warping("image"),
}


def cpu_seconds(call: Callable[[], Any]) -> float:
    """The smallest CPU time of a call."""
    jax.block_until_ready(call())
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        jax.block_until_ready(call())
        seconds.append(time.process_time() - start)
    return min(seconds)


def ceilings() -> dict[str, float]:
    """FLOP/s of a large matrix product, and bytes/s of reading and writing a large array in place."""
    size, length = 1_536, 2**26
    matrix = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a)
    add = jax.jit(lambda b: b + 1, donate_argnums=0)
    large = jnp.ones(length)

    def add_in_place():
        nonlocal large
        large = add(large)
        return large

    return {
        "flops_per_second": 2 * size**3 / cpu_seconds(lambda: product(matrix)),
        "bytes_per_second": 2 * 4 * length / cpu_seconds(add_in_place),
    }


def cost(function: Callable, arguments: tuple) -> dict[str, float]:
    """FLOPs and bytes of the compiled program without loops."""
    pieces = mock.patch("air_jax.transforms.sampling.gather_scatter.POINTS_AT_ONCE", 2**31)
    with pieces:
        jax.clear_caches()
        compiled = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments).compile()
    jax.clear_caches()
    analysis, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flops": analysis["flops"],
        "transcendentals": analysis.get("transcendentals", 0.0),
        "bytes": analysis["bytes accessed"],
        "least_bytes": memory.argument_size_in_bytes + memory.output_size_in_bytes,
    }


def measure(name: str) -> dict[str, float]:
    function, arguments = WORKS[name]()
    found = cost(function, arguments)
    compiled = jax.jit(function)
    return found | {"seconds": cpu_seconds(lambda: compiled(*arguments))}


def table(report: dict) -> str:
    peak = report["ceilings"]
    lines = ["| work | CPU ms | MFLOP | MB | FLOP/B | GFLOP/s | GB/s | bound, ms |", f"|{'---|' * 8}"]
    for name, found in report["works"].items():
        flops, size, seconds = found["flops"], found["bytes"], found["seconds"]
        bound = max(flops / peak["flops_per_second"], size / peak["bytes_per_second"])
        shares = [
            f"{rate / 1e9:.1f} ({100 * rate / peak[key]:.0f} %)"
            for rate, key in ((flops / seconds, "flops_per_second"), (size / seconds, "bytes_per_second"))
        ]
        lines.append(
            f"| {name} | {1e3 * seconds:.1f} | {flops / 1e6:,.1f} | {size / 1e6:,.1f} | {flops / size:.2f} "
            f"| {' | '.join(shares)} | {1e3 * bound:.1f} ({100 * bound / seconds:.0f} %) |"
        )
    return "\n".join(lines)


def draw(report: dict, path: Path) -> None:
    """The roofline: each piece of work by its FLOPs a byte and its FLOP/s."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    peak = report["ceilings"]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    intensity = np.geomspace(0.05, 50, 200)
    roof = np.minimum(peak["flops_per_second"], intensity * peak["bytes_per_second"]) / 1e9
    axes.loglog(intensity, roof, color="black")
    axes.annotate(f"{peak['bytes_per_second'] / 1e9:.1f} GB/s", (0.06, 0.15 * peak["bytes_per_second"] / 1e9))
    axes.annotate(f"{peak['flops_per_second'] / 1e9:.0f} GFLOP/s", (12, 1.1 * peak["flops_per_second"] / 1e9))
    for marker, (name, found) in zip("osD^v<>", report["works"].items(), strict=False):
        x, y = found["flops"] / found["bytes"], found["flops"] / found["seconds"] / 1e9
        axes.plot(x, y, marker, markersize=8, label=name)
    axes.set(xlabel="FLOPs a byte, as compiled", ylabel="GFLOP/s of one core", xlim=(0.05, 50))
    axes.set_ylim(1, 3 * peak["flops_per_second"] / 1e9)
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", default=[""], help="those whose names begin so; default: all")
    parser.add_argument("--add", action="store_true", help="to the file's works and ceilings of an earlier call")
    parser.add_argument("--output", type=Path, default=FOLDER / "roofline.json")
    arguments = parser.parse_args()
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"  # before JAX starts
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from experiments.benchmark import machine

    report = {"machine": machine.describe(), "ceilings": ceilings(), "works": {}}
    if arguments.add:
        report = json.loads(arguments.output.read_text())
    for name in WORKS:
        if name.startswith(tuple(arguments.works)):
            report["works"][name] = measure(name)
            print(name, report["works"][name], flush=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    draw(report, arguments.output.with_suffix(".png"))
    print(json.dumps(report["machine"]), table(report), sep="\n")


if __name__ == "__main__":
    main()
