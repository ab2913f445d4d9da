"""Measures what guides do to two slides of different stains: landmarks, their weight, colours.

  python -m experiments.everyday.guiding --data=FOLDER --output_dir=experiments/everyday

`FOLDER` contains `histology_landmarks/lung_lesion_3`. Every second landmark guides, the others score. The script leaves
`guiding.json`: median distances in pixels of both halves, and seconds of each run. The other files stay in `--run`.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from air_jax import io
from air_jax.file_registration.guiding import Guiding
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.runtime import startup

FIXED, MOVING = "29-041-Izd2-w35-He-les3", "29-041-Izd2-w35-Ki67-7-les3"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/guiding"), help="folder of all other files")
    arguments = parser.parse_args()
    startup.use_compilation_cache()
    folder = arguments.data / "histology_landmarks/lung_lesion_3"
    arguments.run.mkdir(parents=True, exist_ok=True)
    halves = {}
    for side, name in (("fixed", FIXED), ("moving", MOVING)):
        points = io.read_landmarks(folder / f"{name}.csv")
        for half, first in (("guide", 0), ("score", 1)):
            halves[side, half] = arguments.run / f"{side}_{half}.csv"
            io.write_landmarks(halves[side, half], points[first::2])
    plain = Options(
        folder / f"{FIXED}.jpg",
        folder / f"{MOVING}.jpg",
        arguments.run / "plain",
        landmarks=halves["moving", "score"],
        fixed_landmarks=halves["fixed", "score"],
    )
    guides = {"guide_landmarks": halves["moving", "guide"], "fixed_guide_landmarks": halves["fixed", "guide"]}
    settings = {
        "no guides": Guiding(),
        "colours": Guiding(colour="channels"),
        "affine from landmarks": Guiding(**guides, affine_from="landmarks", guide_weight=0.0),
        **{f"guide_weight {weight:g}": Guiding(**guides, guide_weight=weight) for weight in (0.1, 1.0, 10.0)},
    }
    rows = {}
    for name, guiding in settings.items():
        output_dir = arguments.run / name.replace(" ", "_")
        scores = register_files(dataclasses.replace(plain, output_dir=output_dir, guiding=guiding), compile_ahead=True)
        rows[name] = {
            "before": round(scores["before"]["tre_median_pixels"], 2),
            "after": round(scores["after"]["tre_median_pixels"], 2),
            "guides_mean": scores["guides"].get("guide_distance_mean"),
            "folding_percent": scores["after"]["folding_percent"],
            "seconds": scores["seconds"]["all"],
        }
        print(name, rows[name], flush=True)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    (arguments.output_dir / "guiding.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
