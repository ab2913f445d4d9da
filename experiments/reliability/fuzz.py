"""Damages files of every format at random and reads them: `python -m experiments.reliability.fuzz --minutes=30`.

Each file must be read, or refused with a `UserError` of one line that names it. Everything else is printed with its
seed: another exception, more than 20 s, more than 4 GB, or the end of the process.
"""

import argparse
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from air_jax import UserError, io
from air_jax.io.series import Series, read_series, write_series
from air_jax.io.transform import read_transform, write_affine
from experiments.reliability.runs import end_of, start

BATCH = 100  # seeds of one child
SECONDS, MEMORY = 20, 4 * 2**30
AFFINE = np.array([[0.8, 0.1, 0.0, -3.0], [-0.1, 0.8, 0.0, 2.0], [0.0, 0.0, 2.5, 7.0], [0.0, 0.0, 0.0, 1.0]])
IMAGES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mgz", ".npy", ".npz", ".png", ".jpg", ".tif")
PICTURES = (".png", ".jpg", ".tif")


def make_files(folder: Path) -> list[tuple[Path, Callable[[Path], object]]]:
    """Writes a small good file of every format into a folder; returns each with the function that reads it."""
    rng = np.random.default_rng(0)
    files: list[tuple[Path, Callable[[Path], object]]] = []
    for suffix in IMAGES:
        array = rng.integers(0, 255, (4, 5) if suffix in PICTURES else (4, 5, 6)).astype(np.uint8)
        io.write_image(folder / f"image{suffix}", array, np.eye(3) if suffix in PICTURES else AFFINE)
        files.append((folder / f"image{suffix}", io.read_image))
    io.write_segmentation(folder / "labels.nii", rng.integers(0, 4, (4, 5, 6)), AFFINE)
    io.write_field(folder / "field.nii", rng.random((4, 5, 6, 3)), AFFINE)
    io.write_stack(folder / "stack.npz", rng.random((4, 5, 6)), label=rng.integers(0, 4, (4, 5, 6)))
    write_series(folder / "series.nii", Series(rng.random((3, 4, 5, 6), dtype=np.float32), AFFINE, 2.0))
    write_series(folder / "series.tif", Series(rng.integers(0, 255, (3, 9, 8)).astype(np.uint8), np.eye(3)))
    write_affine(folder / "affine.mat", AFFINE[:-1])
    write_affine(folder / "affine.tfm", AFFINE[:-1])
    readers = {"labels.nii": io.read_segmentation, "field.nii": io.read_field, "stack.npz": io.read_stack}
    readers |= {"series.nii": read_series, "series.tif": read_series}
    readers |= {"affine.mat": read_transform, "affine.tfm": read_transform}
    for name in ("points.csv", "points.fcsv", "points.mrk.json"):
        io.write_landmarks(folder / name, rng.random((4, 3)))
        readers[name] = io.read_landmarks
    return files + [(folder / name, read) for name, read in readers.items()]


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes, removes or inserts some bytes, four of five times among the first 400: those of headers."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(min(len(data), 400) if rng.random() < 0.8 else len(data)))
        kind = rng.integers(4)
        if kind == 0:
            data[place] = int(rng.integers(256))
        elif kind == 1:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 2 and len(data) > 20:
            del data[place : place + int(rng.integers(1, 9))]
        else:
            data[place:place] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(data)


def read_damaged(path: Path, read: Callable[[Path], object], folder: Path, seed: int) -> str:
    """Damages a copy of a file and reads it.

    Returns:
      "read", "refused", or what is wrong.
    """
    copy = folder / path.name
    copy.write_bytes(damage(path.read_bytes(), np.random.default_rng(seed)))
    try:
        read(copy)
    except UserError as error:
        text = str(error)
        return "refused" if path.name in text and "\n" not in text else f"unclear: {text!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def _batch(files: list[tuple[Path, Callable[[Path], object]]], first: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + BATCH):
            for path, read in files:
                print(f"last: {path.name} {seed}", flush=True)
                signal.alarm(SECONDS)
                found = read_damaged(path, read, Path(folder), seed)
                signal.alarm(0)
                print(found if found in ("read", "refused") else f"wrong: {path.name} {seed}: {found}", flush=True)


def main() -> None:
    """Reads damaged files for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    options = parser.parse_args()
    begun, counts = time.monotonic(), {"read": 0, "refused": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as name:
        files, log, seed = make_files(Path(name)), Path(name) / "log", options.seed
        while time.monotonic() - begun < 60 * options.minutes:
            log.write_text("")
            status = end_of(start(lambda seed=seed: _batch(files, seed), log))
            lines = log.read_text(errors="replace").splitlines()
            wrong = [line for line in lines if line.startswith("wrong: ")]
            if status:
                wrong.append(
                    f"wrong: ended with {status}; " + [line for line in lines if line.startswith("last: ")][-1]
                )
            print(*wrong, sep="\n", end="\n" if wrong else "", flush=True)
            counts["wrong"] += len(wrong)
            for name in ("read", "refused"):
                counts[name] += lines.count(name)
            seed += BATCH
    print(f"seeds {options.seed} to {seed - 1}: {counts}")


if __name__ == "__main__":
    main()
