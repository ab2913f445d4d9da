"""Registers two brains with the defaults of `air_jax.register`, and keeps their scores and their report.

  python -m experiments.register_real.two_brains --data=FOLDER --output_dir=experiments/register_real

`FOLDER` holds `brains_synthseg/brains2_1mm.npz`: two brains at 1 mm, synthetic images of SynthSeg's label maps. The
script writes them as NIfTI files and registers these. It leaves `two_brains.json`, the run's `scores.json`, and
`two_brains.png`, the whole of its `report.png` at a width of `WIDTH` pixels. The other files stay in `--run`.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from air_jax import io
from air_jax.file_registration.run import Options, register_files
from air_jax.runtime import startup

WIDTH = 1_600  # pixels
AFFINE = np.diag([1.0, -1.0, 1.0, 1.0])  # mm in LPS, of axes that point left, anterior and superior


def write_brains(path: Path, folder: Path) -> None:
    """Writes the images and segmentations of a stack with the axes (superior, posterior, left) as NIfTI files."""
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(path) as arrays:
        for index in (0, 1):
            for key, ending in (("image", ""), ("label", "_label")):
                array = arrays[key][index].transpose(2, 1, 0)[:, ::-1]
                io.write_image(folder / f"brain{index}{ending}.nii.gz", np.ascontiguousarray(array), AFFINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/two_brains"), help="folder of all other files")
    arguments = parser.parse_args()
    startup.use_compilation_cache()
    write_brains(arguments.data / "brains_synthseg/brains2_1mm.npz", arguments.run)
    options = Options(
        fixed=arguments.run / "brain0.nii.gz",
        moving=arguments.run / "brain1.nii.gz",
        fixed_labels=arguments.run / "brain0_label.nii.gz",
        labels=arguments.run / "brain1_label.nii.gz",
        output_dir=arguments.run / "registered",
    )
    register_files(options, compile_ahead=True)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.output_dir / "scores.json", arguments.output_dir / "two_brains.json")
    report = Image.open(options.output_dir / "report.png").convert("RGB")
    small = report.resize((WIDTH, round(report.height * WIDTH / report.width)), Image.Resampling.LANCZOS)
    small.quantize(256).save(arguments.output_dir / "two_brains.png", optimize=True)


if __name__ == "__main__":
    main()
