"""Ten brains and their template: `python -m experiments.gallery.template --data=brains20_2mm.npz --output=t.png`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

from air_jax import io
from air_jax.file_templates.options import Options
from air_jax.file_templates.run import build_template
from experiments.gallery.arguments import paths

TO_LPS = np.diag([2.0, 2, 2, 1])[[2, 1, 0, 3]]  # voxels of 2 mm; axes: superior, posterior, left


def main() -> None:
    data, output = paths(__doc__, "data", "output")
    with np.load(data) as arrays:
        brains = arrays["image"][:10]  # [10, D, H, W]
    with TemporaryDirectory() as folder:
        images, results = Path(folder) / "images", Path(folder) / "results"
        images.mkdir()
        for number, brain in enumerate(brains):
            io.write_image(images / f"brain{number}.nii.gz", brain, TO_LPS)
        build_template(Options(images, results, start="headers", reference=images / "brain0.nii.gz"))
        template = io.read_image(results / "template.nii.gz").array
    top, bottom = (figure := Figure(figsize=(10, 4.4), layout="constrained")).subfigures(2, height_ratios=(1, 2.3))
    z, y, x = (size // 2 for size in template.shape)
    planes = brains[:, z].mean(axis=0), template[z], template[::-1, y], template[::-1, :, x]
    axes, names = [*top.subplots(1, 10), *bottom.subplots(1, 4)], [*[""] * 10, "their mean", "template", "", ""]
    for axis, image, name in zip(axes, [*brains[:, z], *planes], names, strict=True):
        axis.imshow(image, cmap="gray")
        axis.set_title(name)
        axis.set_axis_off()
    figure.savefig(output, dpi=95)


if __name__ == "__main__":
    main()
