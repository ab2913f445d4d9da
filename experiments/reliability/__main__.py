"""Kills, stops, damages and disturbs small runs, and counts what is lost: `python -m experiments.reliability --help`.

Every trial is a child of this process, forked after the imports. A run is 40 steps on digits with ten checkpoints.
Counts are written after each trial; the same command goes on where it ended.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from experiments.reliability.runs import end_of, preload, start, train_small
from experiments.reliability.trials import SECONDS, TRIALS, Found

# What every trial should show.
GOALS = ("bit-equal", "one line", "one refused", "one result", "went on", "ended with 75", "noticed or the same")


def main() -> None:
    """Runs the chosen kinds of trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results.json")
    parser.add_argument("--only", nargs="*", default=list(TRIALS), help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--share", type=float, default=1.0, help="of the whole number of trials")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no trial starts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    preload()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # a trial of `read_only` is another user's
        whole = _left_in_peace(folder)
        for kind in options.only:
            function, number = TRIALS[kind]
            counts = results.setdefault(kind, {"seed": options.seed, "tried": 0, "seconds": 0.0})
            if counts["seed"] != options.seed:
                sys.exit(f"{options.output} has trials of seed {counts['seed']}; choose another --output")
            for trial in range(counts["tried"], max(1, round(options.share * number))):
                if time.monotonic() - begun > 60 * options.minutes:
                    return
                own = folder / f"{kind.replace(' ', '_')}_{trial}"
                own.mkdir()
                own.chmod(0o755)
                started = time.monotonic()
                found = function(own, whole, random.Random(f"{options.seed} {kind} {trial}"))
                _count(counts, found, time.monotonic() - started)
                options.output.write_text(json.dumps(results, indent=2) + "\n")
                wrong = [name for name in GOALS if not found.get(name, 1)]
                for name in ("said", "log"):
                    if wrong and (own / name).exists():
                        print((own / name).read_text(errors="replace")[-3000:])
                print(f"{kind} {trial + 1}: {'not ' + ', '.join(wrong) if wrong else 'survived'}", flush=True)
                shutil.rmtree(own)
            print(kind, counts, flush=True)


def _left_in_peace(folder: Path) -> Path:
    """Makes the run with which others are compared."""
    whole = folder / "whole"
    for _ in range(2):  # the first one also compiles
        shutil.rmtree(whole, ignore_errors=True)
        begun = time.monotonic()
        if end_of(start(lambda: train_small(whole), folder / "log")):
            sys.exit((folder / "log").read_text())
    (whole / SECONDS).write_text(json.dumps(time.monotonic() - begun))
    return whole


def _count(counts: Found, found: Found, seconds: float) -> None:
    """Adds what a trial found; of lengths of time the longest is kept."""
    counts["tried"] += 1
    counts["seconds"] = round(counts["seconds"] + seconds, 1)
    for name, value in found.items():
        counts[name] = max(counts.get(name, 0), value) if "longest" in name else counts.get(name, 0) + int(value)


if __name__ == "__main__":
    main()
