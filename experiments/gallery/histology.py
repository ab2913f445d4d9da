"""Two stains of a rat's kidney, before and after: `python -m experiments.gallery.histology --data=D --output=h.jpg`.

`D` contains `Rat-Kidney_HE.jpg` and `Rat-Kidney_PanCytokeratin.jpg` of the BIRL data (BSD-3-Clause, J. Borovec).
"""

import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from air_jax import io
from air_jax.file_registration.run import Options, register_files
from air_jax.visualize.panels import checkerboard
from experiments.gallery.arguments import paths


def main() -> None:
    data, output = paths(__doc__, "data", "output")
    files = [data / f"Rat-Kidney_{stain}.jpg" for stain in ("HE", "PanCytokeratin")]
    with tempfile.TemporaryDirectory() as folder:
        register_files(Options(fixed=files[0], moving=files[1], output_dir=Path(folder) / "out"))
        warped = io.read_image(next((Path(folder) / "out").glob("warped.*"))).array
    fixed, moving = (io.read_image(path).array for path in files)
    height, width = (min(sizes) for sizes in zip(fixed.shape[:2], moving.shape[:2], strict=True))
    fixed, moving, warped = (np.asarray(image)[:height, :width] for image in (fixed, moving, warped))
    squares = [checkerboard(fixed, image, (1, 1)) for image in (moving, warped)]
    figure = Figure(figsize=(9, 9 * height / width + 0.5), layout="constrained")
    names = "H&E (fixed)", "pan-cytokeratin (moving)", "squares of both, before", "squares of both, after"
    for axis, image, name in zip(figure.subplots(2, 2).ravel(), (fixed, moving, *squares), names, strict=True):
        axis.imshow(image)
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
    figure.savefig(output, dpi=100, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
