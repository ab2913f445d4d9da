"""Kills, stops, damages and disturbs small runs, and counts what is lost: `python -m experiments.reliability --help`.

Every trial is a child of this process, forked after the imports. A run is 40 steps on digits with ten checkpoints.
Writes `results.json` after each kind of trial.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from experiments.reliability.runs import (
    compared_in_child,
    end_of,
    kill_at_random,
    kill_in_write,
    start,
    train_small,
)

Counts = dict[str, int | float]


def killed(folder: Path, whole: Path, trials: int, drawn: random.Random) -> Counts:
    """SIGKILL, half of the times inside a checkpoint write; the same command then goes on."""
    found = {"tried": 0, "inside a write": 0, "bit-equal": 0}
    seconds = json.loads((whole / "seconds.json").read_text())
    for trial in range(trials):
        workdir = folder / f"killed_{trial}"
        pid = start(lambda workdir=workdir: train_small(workdir), folder / "log")
        if trial % 2:
            found["inside a write"] += kill_in_write(pid, workdir / "checkpoints", drawn)
        else:
            kill_at_random(pid, seconds, drawn)
            end_of(pid)
        status = end_of(start(lambda workdir=workdir: train_small(workdir), folder / "log"))
        found["tried"] += 1
        found["bit-equal"] += status == 0 and compared_in_child(workdir, whole, folder / "log")
        shutil.rmtree(workdir)
    return found


def stopped(folder: Path, whole: Path, trials: int, drawn: random.Random) -> Counts:
    """SIGTERM, SIGINT and SIGHUP: the run saves, ends with 75 and goes on."""
    found = {"tried": 0, "ended with 75": 0, "bit-equal": 0, "longest seconds": 0.0}
    for trial in range(trials):
        workdir = folder / f"stopped_{trial}"
        pid = start(lambda workdir=workdir: train_small(workdir), folder / "log")
        number = drawn.randint(1, 15)
        while _num_lines(workdir) < number:
            time.sleep(0.002)
        begun = time.monotonic()
        os.kill(pid, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[trial % 3])
        status = end_of(pid)
        found["longest seconds"] = max(found["longest seconds"], round(time.monotonic() - begun, 2))
        found["tried"] += 1
        found["ended with 75"] += status == 75
        status = end_of(start(lambda workdir=workdir: train_small(workdir), folder / "log"))
        found["bit-equal"] += status == 0 and compared_in_child(workdir, whole, folder / "log")
        shutil.rmtree(workdir)
    return found


def damaged(folder: Path, whole: Path, trials: int, drawn: random.Random) -> Counts:
    """One bit of one file of a checkpoint is flipped: what is restored is whole, or the damage is named."""
    found = {"tried": 0, "noticed": 0, "the same arrays all the same": 0, "unnoticed": 0}
    files = [path for path in sorted((whole / "checkpoints").rglob("*")) if path.is_file() and path.stat().st_size]
    for trial in range(trials):
        workdir, file = folder / f"damaged_{trial}", drawn.choice(files)
        shutil.copytree(whole, workdir)
        copy = workdir / file.relative_to(whole)
        content = bytearray(copy.read_bytes())
        content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
        copy.write_bytes(content)
        step = int(file.relative_to(whole / "checkpoints").parts[0])
        status = end_of(start(lambda workdir=workdir, step=step: _restored_as(workdir, whole, step), folder / "log"))
        found["tried"] += 1
        found[{0: "the same arrays all the same", 5: "noticed"}.get(status, "unnoticed")] += 1
        shutil.rmtree(workdir)
    return found


def _restored_as(workdir: Path, whole: Path, step: int) -> None:
    """Ends with 0 where a checkpoint is restored as it was, with 5 where its damage is noticed, else with 6."""
    import jax
    import numpy as np

    from air_jax.workdir import checkpoint

    def read(folder: Path) -> dict:
        checkpoint._read_scores(folder)
        return {name: checkpoint._read_item(folder, name) for name in ("params", "opt_state")}

    try:
        found = read((workdir / "checkpoints" / str(step)).absolute())
    except Exception:
        sys.exit(5)
    expected = read((whole / "checkpoints" / str(step)).absolute())
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    sys.exit(0 if all(np.array_equal(a, b) for a, b in pairs) else 6)


def twice(folder: Path, whole: Path, trials: int, drawn: random.Random) -> Counts:
    """Two runs start together in one workdir: one is refused, the other ends as if it had been alone."""
    found = {"tried": 0, "one refused": 0, "bit-equal": 0}
    for trial in range(trials):
        workdir = folder / f"twice_{trial}"
        pids = [start(lambda workdir=workdir: train_small(workdir), folder / "log")]
        time.sleep(drawn.uniform(0, 0.2))
        pids.append(start(lambda workdir=workdir: train_small(workdir), folder / "log"))
        found["tried"] += 1
        found["one refused"] += sorted(map(end_of, pids)) == [0, 2]
        found["bit-equal"] += compared_in_child(workdir, whole, folder / "log")
        shutil.rmtree(workdir)
    return found


def registered_twice(folder: Path, whole: Path, trials: int, drawn: random.Random) -> Counts:
    """Two registrations of different images start together in one folder: the files are of one of them."""
    import numpy as np

    from air_jax import io

    del whole
    image = np.random.default_rng(0).random((24, 24, 12)).astype(np.float32)
    found = {"tried": 0, "one refused": 0, "one result": 0}
    for index in range(3):
        io.write_image(folder / f"{index}.nii.gz", np.roll(image, index, axis=0), np.eye(4))
    for trial in range(trials):
        output = folder / f"registered_{trial}"
        pids = []
        for moving in (1, 2):
            pids.append(start(lambda moving=moving, output=output: _register(folder, moving, output), folder / "log"))
            time.sleep(drawn.uniform(0, 0.1))
        found["tried"] += 1
        found["one refused"] += sorted(map(end_of, pids)) == [0, 2]
        scores = json.loads((output / "scores.json").read_text())
        found["one result"] += sorted(path.name for path in output.iterdir()) == sorted(
            [*scores["files"], "scores.json"]
        )
        shutil.rmtree(output)
    return found


def _register(folder: Path, moving: int, output: Path) -> None:
    from air_jax.file_registration.options import Options
    from air_jax.file_registration.run import register_files
    from air_jax.runtime import command_line, startup

    startup.use_compilation_cache()
    options = Options(folder / "0.nii.gz", folder / f"{moving}.nii.gz", output, refine_steps=6)
    command_line.keep_streams()
    command_line._guarded(lambda: register_files(options))


def unread(folder: Path, whole: Path, trials: int, drawn: random.Random) -> Counts:
    """Standard output is a pipe whose reader has gone: the run goes on to its end."""
    del drawn
    found = {"tried": 0, "bit-equal": 0}
    for trial in range(trials):
        workdir = folder / f"unread_{trial}"

        def train(workdir: Path = workdir) -> None:
            reading, writing = os.pipe()
            os.dup2(writing, 1)
            os.close(reading)
            train_small(workdir)

        status = end_of(start(train, folder / "log"))
        found["tried"] += 1
        found["bit-equal"] += status == 0 and compared_in_child(workdir, whole, folder / "log")
        shutil.rmtree(workdir)
    return found


def full(folder: Path, whole: Path, trials: int, drawn: random.Random) -> Counts:
    """Files may not grow beyond a random size, as on a full disk: one line, and afterwards the run goes on."""
    found = {"tried": 0, "one line": 0, "bit-equal": 0}
    largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    for trial in range(trials):
        workdir, log = folder / f"full_{trial}", folder / f"full_{trial}.log"
        size = drawn.randint(100, largest)

        def train(workdir: Path = workdir, size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            from air_jax.runtime import startup

            startup.use_compilation_cache()
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            train_small(workdir)

        status = end_of(start(train, log))
        text = log.read_text()
        found["tried"] += 1
        found["one line"] += status in (0, 2) and "Traceback" not in text
        status = end_of(start(lambda workdir=workdir: train_small(workdir), folder / "log"))
        found["bit-equal"] += status == 0 and compared_in_child(workdir, whole, folder / "log")
        shutil.rmtree(workdir)
    return found


def _num_lines(workdir: Path) -> int:
    try:
        return (workdir / "metrics.jsonl").read_text().count("\n")
    except OSError:
        return 0


TRIALS: dict[str, tuple[Callable[..., Counts], int]] = {
    "killed": (killed, 100),
    "stopped": (stopped, 30),
    "damaged": (damaged, 500),
    "two runs": (twice, 20),
    "two registrations": (registered_twice, 20),
    "stdout closed": (unread, 5),
    "full disk": (full, 20),
}


def main() -> None:
    """Runs the chosen kinds of trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results.json")
    parser.add_argument("--only", nargs="*", default=list(TRIALS), help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--share", type=float, default=1.0, help="of the whole number of trials")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / "whole"
        for _ in range(2):  # the first one also compiles
            shutil.rmtree(whole, ignore_errors=True)
            begun = time.monotonic()
            if end_of(start(lambda: train_small(whole), folder / "log")):
                sys.exit((folder / "log").read_text())
        (whole / "seconds.json").write_text(json.dumps(time.monotonic() - begun))
        for kind in options.only:
            function, number = TRIALS[kind]
            begun = time.monotonic()
            found = function(folder, whole, max(1, round(options.share * number)), random.Random(options.seed))
            results[kind] = {**found, "seconds": round(time.monotonic() - begun)}
            print(kind, results[kind], flush=True)
            options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
