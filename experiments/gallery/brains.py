"""Two brains and the deformed grid: `python -m experiments.gallery.brains --data=brains20_2mm.npz --output=b.png`.

The file is a stack of synthetic brains at 2 mm with the axes (superior, posterior, left), see docs/results.md.
"""

import numpy as np
from matplotlib.figure import Figure

import air_jax
from air_jax.visualize.panels import draw_lines, fusion
from experiments.gallery.arguments import paths

SLICES = 34, 44, 52  # axial


def main() -> None:
    data, output = paths(__doc__, "data", "output")
    with np.load(data) as arrays:
        fixed, moving = arrays["image"][:2] / np.float32(255)
    result = air_jax.register_images(fixed, moving, affine="affine")
    warped, displacement = np.asarray(result.warped), np.asarray(result.displacement)
    figure = Figure(figsize=(11, 2.1 * len(SLICES) + 0.3), layout="constrained")
    names = "fixed", "moving", "warped", "before", "after", "where moving is read"
    for row, z in zip(figure.subplots(len(SLICES), len(names)), SLICES, strict=True):
        overlays = fusion(fixed[z], moving[z]), fusion(fixed[z], warped[z])
        for axis, image, name in zip(
            row, (fixed[z], moving[z], warped[z], *overlays, moving[z] / 2), names, strict=True
        ):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title=name if z == SLICES[0] else "")
        points = np.moveaxis(np.indices(fixed.shape[1:]), 0, -1) + displacement[z, ..., 1:]
        draw_lines(row[5], [*points[::4, :, ::-1], *points[:, ::4, ::-1].swapaxes(0, 1)])
    figure.savefig(output, dpi=95)


if __name__ == "__main__":
    main()
