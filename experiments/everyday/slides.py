"""Two slides of 20,000 pixels, from tiled TIFFs to the warped TIFF: error, seconds and memory of `air-jax register`.

  python -m experiments.everyday.slides --data=FOLDER --output_dir=OUT

FOLDER contains `histology_landmarks/lesion_izd2_041`, a real pair of stains of about 890 x 730 pixels. It is enlarged
by cubic interpolation, which adds no detail. The errors of its landmarks say how well it is aligned. OUT
needs 4 GB of disk and takes `slides.json`. The memory counts pages of files that the system may drop.
"""

import argparse
import csv
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

LONGEST = 20_000
STAINS = {"fixed": "HE", "moving": "proSPC"}


def enlarge(source: Path, name: str, folder: Path) -> None:
    """Writes the enlarged picture as a tiled TIFF, and its landmarks in its pixels."""
    with Image.open(source.with_suffix(".jpg")) as picture:
        factor = LONGEST / max(picture.size)
        size = tuple(round(side * factor) for side in picture.size)
        pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    options = {"tile": (512, 512), "photometric": "rgb", "compression": "zlib", "metadata": None}
    tifffile.imwrite(folder / f"{name}.tif", pixels, **options)
    with source.with_suffix(".csv").open() as file:
        points = [[(float(value) + 0.5) * factor - 0.5 for value in row[-2:]] for row in list(csv.reader(file))[1:]]
    lines = ["x,y", *(",".join(map(str, point)) for point in points)]
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Makes both slides, registers them in a process of its own, and writes slides.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    given = parser.parse_args()
    given.output_dir.mkdir(parents=True, exist_ok=True)
    for name, stain in STAINS.items():
        source = given.data / "histology_landmarks" / "lesion_izd2_041" / f"Izd2-29-041-w35_{stain}"
        enlarge(source, name, given.output_dir)
    command = [sys.executable, "-m", "air_jax.register", f"--output_dir={given.output_dir / 'registered'}"]
    command += [f"--{name}={given.output_dir / name}.tif" for name in STAINS]
    command += [f"--landmarks={given.output_dir}/moving.csv", f"--fixed_landmarks={given.output_dir}/fixed.csv"]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = json.loads((given.output_dir / "registered" / "scores.json").read_text())
    with tifffile.TiffFile(given.output_dir / "registered" / "warped.tif") as file:
        shape = file.pages.first.shape
    results = {
        "machine": platform.processor() or platform.machine(),
        "warped": list(shape),
        "tre_mean_pixels": {when: scores[when]["tre_mean_pixels"] for when in ("before", "after")},
        "percent_of_diagonal": 100 * scores["after"]["tre_mean_pixels"] / float(np.hypot(*shape[:2])),
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "largest_memory_gb": used.ru_maxrss / 1e6,
    }
    print(json.dumps(results, indent=2))
    (given.output_dir / "slides.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
