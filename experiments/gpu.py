"""Trains the matching models on one accelerator, one after the other, and scores them with their controls.

  python -m experiments.gpu --data=FOLDER --output_dir=runs/gpu

`FOLDER` contains the data sets that `experiments.matching.run` and `experiments.synthetic.run` name. A training that
has not ended after its share of `--minutes` is stopped with its state saved; the same command goes on where it stopped,
and a training that has ended is not repeated. The scores, a table of the trainings and the logs lie in `--output_dir`.
`--set KEY=VALUE` sets a key of all configs, to try the command on a small machine.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from experiments.compare_real.classical import machine

STOPPED = 75  # exit status of a run that was stopped with its state saved


class Training(NamedTuple):
    """A config, the data set that it trains on, and its share of the time."""

    config: str
    dataset: str
    share: float


CARDIAC = "acdc_ed_es/acdc_2d_mid_128.npz"
HIPPOCAMPUS = "hippocampus_msd/hippocampus_48x64x48.npz"
BRAINS = "brains_synthseg/brains20_2mm.npz"
TRAININGS = (
    Training("shapes", "", 0.15),
    Training("shapes_3d", "", 0.2),
    Training("brains_synthetic", BRAINS, 0.2),
    Training("cardiac_matching", CARDIAC, 0.1),
    Training("cardiac_matching_labels", CARDIAC, 0.05),
    Training("hippocampus_matching", HIPPOCAMPUS, 0.1),
    Training("hippocampus_matching_labels", HIPPOCAMPUS, 0.2),
)


def train(training: Training, data: Path, folder: Path, seconds: float, keys: list[str]) -> dict[str, float | str]:
    """Trains for so many seconds at most; returns how it ended, its last step and its time."""
    command = [sys.executable, "-m", "air_jax.main", f"--config={training.config}"]
    command += [f"--workdir={folder / training.config}", *(f"--config.{key}" for key in keys)]
    if training.dataset:
        command.append(f"--config.dataset.name={data / training.dataset}")
    start = time.perf_counter()
    with (folder / f"{training.config}.log").open("a") as log, subprocess.Popen(command, stdout=log, stderr=log) as run:
        try:
            status = run.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGTERM)
            status = run.wait()
    if status not in (0, STOPPED):
        raise SystemExit(f"{training.config}: ended with status {status}; see {folder / training.config}.log")
    lines = [json.loads(line) for line in (folder / training.config / "metrics.jsonl").read_text().splitlines()]
    ended = "stopped" if status == STOPPED else "done"
    step = max((line["step"] for line in lines), default=0)
    return {"ended": ended, "step": step, "seconds": round(time.perf_counter() - start, 1)}


def scorings(data: Path, folder: Path) -> dict[str, list[str]]:
    """The commands that score the runs, by the names of their folders."""
    names = [training.config for training in TRAININGS if "matching" in training.config]
    runs = [part for name in names for part in ("--run", f"{name.split('_')[0]}={folder / name}")]
    synthetic = {name: ["experiments.synthetic.run", f"--model={folder / name}"] for name in ("shapes", "shapes_3d")}
    modules = synthetic | {"matching": ["experiments.matching.run", *runs]}
    return {
        name: [sys.executable, "-m", *parts, f"--data={data}", f"--output_dir={folder / 'scores' / name}"]
        for name, parts in modules.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the runs and their scores")
    parser.add_argument("--minutes", type=float, default=25, help="of all trainings together")
    parser.add_argument("--only", nargs="*", help="configs that are trained, without the scores; default: all")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of all configs")
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    trainings = [each for each in TRAININGS if each.config in (arguments.only or [each.config])]
    shares = sum(each.share for each in trainings)
    results: dict[str, dict] = {"machine": machine()}
    for training in trainings:
        seconds = 60 * arguments.minutes * training.share / shares
        results[training.config] = train(training, arguments.data, arguments.output_dir, seconds, arguments.set)
        print(training.config, results[training.config], flush=True)
        (arguments.output_dir / "trainings.json").write_text(json.dumps(results, indent=1) + "\n")
    if not arguments.only:
        for name, command in scorings(arguments.data, arguments.output_dir).items():
            print(f"scores of {name}", flush=True)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
