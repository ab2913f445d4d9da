"""The train step as one program for each device and as one program that XLA partitions, in turns in one process.

  python -m experiments.benchmark.partitioning [--configs mnist mnist_best] [--devices 8] [--batch_size 128]

On a CPU `--devices` are virtual: they share the cores. A row has the first call, compilation included, the median and
quartiles of `ROUNDS` calls afterwards, and the largest relative difference of a loss between the two.
"""

import argparse
import os
import statistics
import time

import jax
import numpy as np

STEPS_A_CALL, ROUNDS = 20, 12
NAMES = {False: "one program for each device", True: "one program, partitioned by XLA"}


def measure(name: str, batch_size: int) -> None:
    """Prints the rows of a config."""
    from experiments.benchmark import training  # after the number of devices is set

    calls = {
        sharded_jit: training.prepare_config(
            name, jax.local_devices(), steps_a_call=STEPS_A_CALL, sharded_jit=sharded_jit, batch_size=batch_size
        )
        for sharded_jit in NAMES
    }
    seconds, losses = {key: [] for key in calls}, {key: [] for key in calls}
    for _ in range(1 + ROUNDS):
        for key, call in calls.items():
            start = time.perf_counter()
            metrics = call()
            seconds[key].append(time.perf_counter() - start)
            losses[key].append(np.asarray(metrics["loss"]))
    difference = np.max(np.abs(np.divide(losses[True], losses[False]) - 1)[0])
    for key, (first, *rest) in seconds.items():
        low, middle, high = (STEPS_A_CALL / value for value in reversed(statistics.quantiles(rest, n=4)))
        print(
            f"| {name}.py, batch {batch_size} | {NAMES[key]} | {first:.1f} | {middle:.1f} ({low:.1f} to {high:.1f}) "
            f"| {difference if key else 0:.1e} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["mnist"])
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=128)
    arguments = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments.devices}"  # before JAX starts
    print(f"{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}, jax {jax.__version__}")
    print("| work | step | first call, s | steps/s (quartiles) | difference of a loss |\n|---|---|---|---|---|")
    for name in arguments.configs:
        measure(name, arguments.batch_size)


if __name__ == "__main__":
    main()
