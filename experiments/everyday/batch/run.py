"""Measures `air_jax.batch` beside commands of `air_jax.register` on the same pairs, each from an empty cache.

  python -m experiments.everyday.batch.run --data=FOLDER --output_dir=experiments/everyday/batch

`FOLDER` holds `hippocampus_msd/hippocampus_48x64x48.npz`. 20 pairs of different crops (seed 0) in their native sizes
are written as NIfTI. `--commands` is the number of them that are also registered one by one.
"""

import argparse
import csv
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np

from air_jax import io

PAIRS, SEED = 20, 0
COLUMNS = ("fixed", "moving", "fixed_labels", "labels")


def write_pairs(data: Path, folder: Path) -> list[dict[str, Path]]:
    """Writes the crops; returns the files of each pair by flag."""
    with np.load(data / "hippocampus_msd/hippocampus_48x64x48.npz") as arrays:
        content = dict(arrays)
    numbers = np.random.default_rng(SEED).permutation(len(content["ids"]))[: 2 * PAIRS]
    for number in numbers:
        box = tuple(slice(o, o + n) for o, n in zip(content["offset"][number], content["shape"][number], strict=True))
        for kind in ("image", "label"):
            io.write_image(folder / f"{content['ids'][number]}_{kind}.nii.gz", content[kind][number][box], np.eye(4))
    pairs = []
    for fixed, moving in zip(numbers[:PAIRS], numbers[PAIRS:], strict=True):
        sides = [content["ids"][number] for number in (fixed, moving)]
        names = [f"{side}_{kind}.nii.gz" for kind in ("image", "label") for side in sides]
        pairs.append({column: folder / name for column, name in zip(COLUMNS, names, strict=True)})
    with (folder / "pairs.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([path.name for path in pair.values()] for pair in pairs)
    return pairs


def run(cache: Path, module: str, **flags: Path) -> tuple[float, float]:
    """Runs a command with a cache folder; returns its seconds and its CPU seconds."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-m", f"air_jax.{module}", *arguments], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def dice(folder: Path) -> float:
    return json.loads((folder / "scores.json").read_text())["after"]["dice"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--commands", type=int, default=PAIRS)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pairs = write_pairs(arguments.data, folder)
        seconds, used = run(folder / "cache", "batch", pairs=folder / "pairs.csv", output_dir=folder / "batch")
        scores = [dice(folder / "batch" / f"{pair['moving'].name[:-7]}_to_{pair['fixed'].name[:-7]}") for pair in pairs]
        result = {
            "seed": SEED,
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} core(s), jax {jax.__version__}",
            "batch": {"pairs": PAIRS, "seconds": seconds, "cpu_seconds": used, "pairs_an_hour": 3600 * PAIRS / seconds},
            "dice_batch": {"all": float(np.mean(scores)), "pairs": scores},
        }
        _write(result, arguments.output_dir)
        shutil.copy(folder / "batch" / "summary.png", arguments.output_dir)
        times, cpu_times, single = [], [], []
        for index, pair in enumerate(pairs[: arguments.commands]):
            seconds, used = run(folder / "cache1", "register", **pair, output_dir=folder / f"single{index}")
            times.append(seconds)
            cpu_times.append(used)
            single.append(dice(folder / f"single{index}"))
            rate = 3600 * len(times) / sum(times)
            result["commands"] = {
                "pairs": len(times),
                "seconds": times,
                "cpu_seconds": cpu_times,
                "pairs_an_hour": rate,
            }
            result["dice_commands"] = {
                "all": float(np.mean(single)),
                "batch_on_the_same": float(np.mean(scores[: len(single)])),
                "largest_difference": float(np.abs(np.subtract(single, scores[: len(single)])).max()),
            }
            result["faster"] = result["batch"]["pairs_an_hour"] / rate
            share = result["batch"]["cpu_seconds"] / PAIRS
            result["faster_by_cpu_seconds"] = sum(cpu_times) / len(cpu_times) / share
            _write(result, arguments.output_dir)


def _write(result: dict, folder: Path) -> None:
    (folder / "results.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
