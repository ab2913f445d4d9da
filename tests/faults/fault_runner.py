"""Runs rows of the catalogue in forked children, and judges each: one line that helps, and nothing written.

A row is `door: input => expected`. Doors of commands are those of `DEFAULTS`; the input is
their flags, which replace those of `DEFAULTS`, and variables of the environment (`HOME=` removes one, `USER=nobody`
gives up root's rights). In it, a backslash and n are a newline, and `{long}` 300 letters. The door `python` evaluates
an expression with the names of `python_names`. The expected text is a part of the line; for Python it begins with the
class of the error.

  python tests/faults/fault_runner.py FOLDER RUN [--sample=40 --seed=0]
"""

import argparse
import codecs
import collections
import dataclasses
import json
import os
import resource
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

CATALOGUE = Path(__file__).parent / "catalogue"
DEFAULTS = {
    "register": {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz", "output_dir": "out"},
    "apply": {"transform": "affine.tfm", "input": "moving.nii.gz", "reference": "fixed.nii.gz", "output": "out.nii.gz"},
    "train": {"config": "config_digits.py", "workdir": "out"},
    "evaluate": {"workdir": "run"},
    "motion": {"input": "series.nii.gz", "output_dir": "out"},
    "batch": {"pairs": "list_good.csv", "output_dir": "out"},
    "template": {"images": "group", "output_dir": "out"},
    "export": {"workdir": "run", "output_dir": "out"},
    "samples": {"config": "config_digits.py", "output": "out.png"},
    "doctor": {},
}
MODULES = {"train": "main"}  # of doors whose module has another name
SECONDS = 60
MEGABYTES = 400  # that a child may need beyond the parent's: its own imports, buffers of JAX, small arrays


@dataclasses.dataclass(frozen=True)
class Row:
    """A bad input: where it enters, what it is, and a part of the line that should come back."""

    door: str
    given: str
    expected: str

    @property
    def text(self) -> str:
        """The row as it is written."""
        return f"{self.door}: {self.given} => {self.expected}"


def read_catalogue() -> list[Row]:
    """Returns all rows."""
    rows = []
    for path in sorted(CATALOGUE.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                door, rest = line.split(": ", 1)
                given, expected = rest.rsplit(" => ", 1)
                rows.append(Row(door, given, expected))
    return rows


def words_of(row: Row) -> tuple[dict[str, str], list[str]]:
    """Returns the variables of the environment and the arguments of a command's row."""
    words = [word.replace("\\n", "\n").replace("{long}", 300 * "x") for word in shlex.split(row.given)]
    variables = dict(word.split("=", 1) for word in words if "=" in word and word.split("=")[0].isupper())
    given = [word for word in words if word.split("=")[0] not in variables]
    named = {word.lstrip("-").split("=")[0] for word in given}
    left = [f"--{name}={value}" for name, value in DEFAULTS[row.door].items() if name not in named]
    return variables, [word for word in [*left, *given] if word != "--" and not word.endswith("=<none>")]


def run_command(row: Row) -> None:
    """Runs a command's row in this process, and ends it."""
    import importlib

    import jax

    variables, arguments = words_of(row)
    if variables.pop("USER", "") and os.geteuid() == 0:
        os.setuid(65534)
    for name, value in variables.items():
        os.environ.pop(name, None) if value == "" else os.environ.update({name: value})
    if platforms := variables.get("JAX_PLATFORMS"):
        jax.config.update("jax_platforms", platforms)  # which JAX read when it was imported
    sys.argv = [f"air-jax {row.door}", *arguments]
    importlib.import_module(f"air_jax.{MODULES.get(row.door, row.door)}").run()


def python_names() -> dict:
    """Names of the rows of Python."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import air_jax

    def ones(*shape, dtype="float32"):
        return jnp.ones(shape, dtype)

    def nans(*shape):
        return jnp.full(shape, jnp.nan)

    names = dict(air_jax=air_jax, jax=jax, jnp=jnp, np=np, ones=ones, nans=nans, nan=float("nan"), inf=float("inf"))
    rooms = (air_jax.losses, air_jax.metrics, air_jax.transforms, air_jax.optimize, air_jax.models, air_jax.io, air_jax)
    for room in rooms:
        names |= {name: getattr(room, name) for name in room.__all__}
    names |= dict(data=air_jax.data, visualize=air_jax.visualize, metrics=air_jax.metrics, losses=air_jax.losses)
    return names


def run_python(row: Row) -> None:
    """Evaluates a row of Python; prints the error as a command prints its line, and ends the process like one."""
    try:
        eval(row.given.replace("{long}", 300 * "x"), python_names())
    except Exception as error:
        own = type(error).__module__ in ("builtins", "air_jax.errors")
        print(f"{type(error).__name__}: {error}" if own else f"{type(error)}: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def in_child(row: Row, folder: Path) -> dict:
    """Runs a row in a forked child. Returns its exit status, stderr, seconds and memory beyond that of the parent."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # JAX's, about threads: the parent has started none
            pid = os.fork()
        if pid == 0:
            status = 99
            try:
                os.setsid()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.chdir(folder)
                signal.alarm(SECONDS)
                run_python(row) if row.door == "python" else run_command(row)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1 if end.code else 0
            except BaseException:
                import traceback

                traceback.print_exc()
                status = 98
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status, usage = os.wait4(pid, 0)
        err.seek(0)
        text = err.read().decode(errors="replace")
    return {
        "status": os.waitstatus_to_exitcode(status),
        "stderr": text,
        "seconds": round(time.monotonic() - start, 2),
        "megabytes": round((usage.ru_maxrss - before) / 1024),
    }


def state(folder: Path) -> dict[str, tuple]:
    """Returns kind, size and time of each file below a folder; folders without their times."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(root, name))
            is_folder = name in folders
            path = os.path.relpath(os.path.join(root, name), folder)
            found[path] = (status.st_mode,) if is_folder else (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def judge(row: Row, result: dict, changed: list[str]) -> str:
    """Returns what is wrong with a result; empty where it is as it should be."""
    lines = result["stderr"].splitlines()
    if result["status"] == -signal.SIGALRM:
        return "hangs"
    if result["status"] != 2:
        return f"status {result['status']}"
    if any(line.startswith("Traceback") for line in lines):
        return "traceback"
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if row.door != "python" and not lines[0].startswith("air_jax: "):
        return "not our line"
    if row.expected not in lines[0]:
        return "another line"
    if changed:
        return f"changed {', '.join(changed[:3])}"
    return f"{result['megabytes']} MB" if result["megabytes"] > MEGABYTES else ""


def run_rows(rows: list[Row], folder: Path) -> Iterator[dict]:
    """Runs rows one after the other in a folder of `fault_inputs.make`; removes what a row has left."""
    before = state(folder)
    for row in rows:
        result = in_child(row, folder)
        after = state(folder)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        for name in sorted(after.keys() - before.keys(), reverse=True):
            path = folder / name
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if changed:
            before = state(folder)
        yield {"row": row.text, "wrong": judge(row, result, changed), **result}


def sample(rows: list[Row], number: int, seed: int) -> list[Row]:
    """Draws rows, of each door its share and at least one."""
    import random

    by_door = collections.defaultdict(list)
    for row in rows:
        by_door[row.door].append(row)
    drawn = random.Random(seed)
    share = min(1.0, number / len(rows))
    return [row for own in by_door.values() for row in drawn.sample(own, max(1, round(share * len(own))))]


def preload() -> None:
    """Imports all that the doors import, so that children need not; starts no backend of JAX."""
    import importlib

    modules = [MODULES.get(door, door) for door in DEFAULTS]
    modules += ["training.run", "training.samples", "registration.exporting", "registration.pretrained"]
    modules += [f"file_{kind}.run" for kind in ("registration", "transforms", "series", "batches", "templates")]
    for name in [*modules, "visualize", "data", "data.stream", "data.tfds_images"]:
        importlib.import_module(f"air_jax.{name}")
    importlib.import_module("air_jax.data.digits").load()  # what it imports, another user may not be able to read
    for name in (
        "ml_collections.config_flags",
        "nibabel",
        "SimpleITK",
        "tifffile",
        "PIL.Image",
        "sklearn.datasets",
        "scipy.ndimage",
        "safetensors.numpy",
    ):
        importlib.import_module(name)
    codecs.lookup("utf-8-sig")


def main() -> None:
    """Prints one JSON object a row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import fault_inputs

    rows = [row for row in read_catalogue() if options.only in row.text]
    rows = sample(rows, options.sample, options.seed) if options.sample else rows
    preload()
    fault_inputs.make(options.folder, options.run)
    for result in run_rows(rows, options.folder):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
