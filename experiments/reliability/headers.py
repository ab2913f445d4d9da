"""Memory that files with false headers need before they are refused: `python -m experiments.reliability.headers`."""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

from experiments.reliability.runs import end_of, start

TESTS = Path(__file__).parents[2] / "tests"
RESULTS = Path(__file__).parent / "results.json"
# Files of `tests/faults` that declare gigabytes and hold kilobytes, and the functions that read them.
FILES = {
    "io.image.read_image": (
        "huge.nii", "huge.nii.gz", "huge.npy", "huge.npz", "huge.nrrd", "nifti_bomb.nii.gz", "nifti_second.nii",
        "nifti_dim_large.nii", "array_shape_huge.npy", "meta_huge.mha", "meta_size.mha", "picture_bomb.png",
    ),
    "io.series.read_series": ("series_huge.nii", "series_huge.nii.gz"),
    "io.arrays.read_stack": ("huge.npz",),
    "io.transform.read_transform": ("huge.nii", "huge.nrrd"),
}  # fmt: skip


def megabytes_of(read_name: str, path: Path) -> float:
    """Reads a file that must be refused; returns the megabytes that this process then needs beyond those before."""
    from air_jax import UserError

    module, name = f"air_jax.{read_name}".rsplit(".", 1)
    read = getattr(importlib.import_module(module), name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = _kilobytes("VmRSS")
    try:
        read(path)
    except UserError:
        return (_kilobytes("VmHWM") - before) / 1024
    raise AssertionError(f"{path}: read")


def _kilobytes(name: str) -> int:
    """A line of this process's state: VmRSS is the memory now, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure_all(folder: Path, output: Path) -> None:
    """Makes the files in a folder and measures each; libraries are imported before, by good files."""
    sys.path[:0] = [str(TESTS), str(TESTS / "faults")]
    import fault_inputs

    from air_jax import io

    fault_inputs.make_files(folder)
    for name in ("fixed.nii.gz", "image.nrrd", "picture.png", "stack.npz"):
        io.read_image(folder / name)
    found = {f"{name} {read}": round(megabytes_of(read, folder / name), 2) for read in FILES for name in FILES[read]}
    output.write_text(json.dumps(found))


def main() -> None:
    """Measures in a child, and writes the largest number."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / "found.json"
        os.mkdir(Path(name) / "files")
        if end_of(start(lambda: measure_all(Path(name) / "files", output), Path(name) / "log")):
            sys.exit((Path(name) / "log").read_text())
        found = json.loads(output.read_text())
    results = json.loads(RESULTS.read_text())
    results["false headers"] = {"tried": len(found), "refused": len(found), "most megabytes": max(found.values())}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
