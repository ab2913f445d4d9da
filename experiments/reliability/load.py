"""Memory, speed and compilations of long work in one process: 1,000 registrations, then training.

  python -m experiments.reliability.load --minutes=30

Writes load.json and load.png. Warm-up is the first tenth of the work, by registrations or steps. Growth is that of
resident memory from the second tenth to the last one, by their medians.
"""

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
SHAPE = (64, 64)
Row = tuple[float, float, int, int]
POINTS = 300  # in the figure, of each curve


class Watch:
    """Notes seconds, resident megabytes, the number of compiled programs and the work done, once a second."""

    def __init__(self, done: Callable[[], int]):
        from air_jax.runtime.startup import CompileClock

        self._clock, self._start, self._end = CompileClock(), time.monotonic(), threading.Event()
        self._done = done
        self.rows: list[Row] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def note(self) -> None:
        """Adds a row."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        self.rows.append((time.monotonic() - self._start, megabytes, self._clock.programs, self._done()))

    def stop(self) -> list[Row]:
        """Ends the notes and returns them."""
        self._end.set()
        self._thread.join()
        self.note()
        return self.rows

    def _run(self) -> None:
        while not self._end.wait(1.0):
            self.note()


def register_many(number: int) -> dict[str, Any]:
    """Registers pairs of new random images."""
    import scipy.ndimage

    from air_jax import without_model

    registration = without_model(2, refine_steps=20, normalization="percentile")
    rng, seconds = np.random.default_rng(0), []
    watch = Watch(lambda: len(seconds))
    for _ in range(number):
        noise = rng.standard_normal((2, *SHAPE)).astype(np.float32)
        fixed, moving = scipy.ndimage.gaussian_filter(noise, (0, 3, 3))
        begun = time.perf_counter()
        displacement = np.asarray(registration.register(fixed, moving).displacement)
        seconds.append(time.perf_counter() - begun)
        if not np.isfinite(displacement).all():
            raise ValueError("a displacement is not finite")
    return _summary(watch.stop(), [1 / each for each in seconds])


def train_long(minutes: float) -> dict[str, Any]:
    """Trains on digits for some minutes, with a validation and a checkpoint every 200 steps; a signal then stops it."""
    from air_jax.errors import StoppedError
    from air_jax.training import run
    from configs import digits

    config = digits.get_config()
    config.num_train_steps, config.batch_size, config.log_every, config.eval_every = 10**9, 32, 50, 200
    config.eval.num_pairs = 100
    timer = threading.Timer(60 * minutes, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "run" / "metrics.jsonl"
        watch = Watch(lambda: log.stat().st_size if log.exists() else 0)
        try:
            run.train(config, Path(folder) / "run")
        except StoppedError as error:
            print(error)
        rows = watch.stop()
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    return _summary(rows, [line["pairs_per_second"] for line in lines if "pairs_per_second" in line])


def _summary(rows: list[Row], speeds: list[float]) -> dict[str, Any]:
    seconds, megabytes, programs, done = map(np.array, zip(*rows, strict=True))
    share = done / done[-1]
    second, last = (share > 0.1) & (share <= 0.2), share > 0.9
    before, after = (float(np.median(megabytes[part])) for part in (second, last))
    kept, fast = np.linspace(0, len(rows) - 1, POINTS).astype(int), np.array(speeds)
    part = max(1, len(fast) // 10)
    return {
        "seconds": round(float(seconds[-1]), 1),
        "number": len(speeds),
        "megabytes": {
            "after warm-up": round(before, 1),
            "at the end": round(after, 1),
        },
        "growth in percent": round(100 * (after / before - 1), 2),
        "programs": {"after warm-up": int(programs[second][-1]), "at the end": int(programs[-1])},
        "per second": {
            "after warm-up": round(float(np.median(fast[part : 2 * part])), 2),
            "at the end": round(float(np.median(fast[-part:])), 2),
        },
        "warm-up seconds": round(float(seconds[share > 0.1][0]), 1),
        "curve": [[round(float(seconds[k]), 1), round(float(megabytes[k]), 1)] for k in kept],
        "speeds": [round(float(fast[k]), 2) for k in np.linspace(0, len(fast) - 1, POINTS).astype(int)],
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws memory and speed of both works."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, len(results), squeeze=False)
    for column, (name, found) in enumerate(results.items()):
        seconds, megabytes = np.transpose(found["curve"])
        memory, speed = axes[:, column]
        memory.plot(seconds / 60, megabytes, color="C0")
        memory.axvspan(0, found["warm-up seconds"] / 60, color="0.9", label="warm-up")
        memory.set(title=f"{name}: {found['growth in percent']:+.2f} % after warm-up", ylabel="resident memory (MB)")
        memory.set(xlabel="minutes", ylim=(0, 1.15 * megabytes.max()))
        memory.legend(loc="lower right")
        speed.plot(
            np.linspace(0, found["number"], len(found["speeds"])), found["speeds"], ".", color="C1", markersize=3
        )
        speed.set(ylim=(0, None), xlabel="registrations" if name == "registrations" else "lines of the log")
        speed.set(ylabel="registrations per second" if name == "registrations" else "pairs per second")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs both works and draws them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registrations", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--output", type=Path, default=FOLDER / "load.json")
    options = parser.parse_args()
    results = {"registrations": register_many(options.registrations), "training": train_long(options.minutes)}
    options.output.write_text(json.dumps(results) + "\n")
    draw(results, options.output.with_suffix(".png"))
    for name, found in results.items():
        print(name, {key: value for key, value in found.items() if key not in ("curve", "speeds")})


if __name__ == "__main__":
    main()
