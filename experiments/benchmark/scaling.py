"""How throughput should grow with devices, on paper: from step times measured here and the bytes of one all-reduce.

  python -m experiments.benchmark.scaling [--config=configs/mnist.py] [--global_batch 128 4096] [--latency_us 10]

One device is timed at the batch that each of `N` devices would have. To that time comes one all-reduce a step, of all
gradients in float32: a tree of `2 ceil(log2 N)` messages that take `latency_us` each, and `2 (N - 1) / N` times the
bytes at `bandwidth_gb`. Latency and bandwidth are assumptions (the defaults: a 200 Gbit/s network between hosts), not
measurements. With several devices at hand, their real throughput stands beside the model's.
"""

import argparse
import math
import runpy
import statistics
import time

import jax
import numpy as np

from air_jax.runtime.parallel import use_cores
from air_jax.workdir.recipe import build_model, training_objective
from experiments.benchmark import training

NUM_DEVICES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
IMAGE_SHAPE = (28, 28, 1)
STEPS_A_CALL, REPEATS = 20, 5


def step_seconds(config, batch_size: int, num_devices: int) -> tuple[float, int]:
    """Median time of a step of `batch_size` pairs on the first devices, and the number of parameters."""
    images = np.random.default_rng(0).integers(0, 256, (256, *IMAGE_SHAPE), dtype=np.uint8)
    call, params = training.prepare(
        build_model(config.model),
        training_objective(config),
        images,
        batch_size,
        jax.local_devices()[:num_devices],
        steps_a_call=STEPS_A_CALL,
        clip_norm=config.clip_norm,
    )
    seconds = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        call()
        seconds.append((time.perf_counter() - start) / STEPS_A_CALL)
    return statistics.median(seconds[1:]), sum(leaf.size for leaf in jax.tree.leaves(params))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/mnist.py")
    parser.add_argument("--global_batch", type=int, nargs="+", default=[128, 4096])
    parser.add_argument("--latency_us", type=float, default=10.0)
    parser.add_argument("--bandwidth_gb", type=float, default=25.0)
    arguments = parser.parse_args()
    use_cores(min(arguments.global_batch))
    config = runpy.run_path(arguments.config)["get_config"]()
    timed = {}  # by pairs a device

    columns = [
        "global batch",
        "devices",
        "pairs a device",
        "ms a step",
        "of which all-reduce",
        "pairs/s",
        "efficiency",
        "measured",
    ]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for batch_size in arguments.global_batch:
        alone = None
        for devices in NUM_DEVICES:
            share = batch_size // devices
            if batch_size % devices:
                break
            if share not in timed:
                timed[share] = step_seconds(config, share, 1)
            seconds, num_parameters = timed[share]
            messages = 2 * math.ceil(math.log2(devices)) * arguments.latency_us * 1e-6
            all_reduce = messages + 2 * (devices - 1) / devices * 4 * num_parameters / (arguments.bandwidth_gb * 1e9)
            throughput = batch_size / (seconds + all_reduce)
            alone = alone or throughput
            real = ""
            if 1 < devices <= jax.local_device_count():
                real = f"{batch_size / step_seconds(config, batch_size, devices)[0]:,.0f}"
            times = f"{1e3 * (seconds + all_reduce):.3f} | {1e3 * all_reduce:.3f}"
            efficiency = f"{100 * throughput / alone / devices:.0f} %"
            print(
                f"| {batch_size:,} | {devices} | {share:,} | {times} | {throughput:,.0f} | {efficiency} | {real} |",
                flush=True,
            )
    print(f"\n{num_parameters:,} parameters: {4 * num_parameters:,} bytes an all-reduce")


if __name__ == "__main__":
    main()
