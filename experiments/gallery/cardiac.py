"""A heartbeat, and the same held still: `python -m experiments.gallery.cardiac --data=FILE --output=cardiac.gif`.

`FILE` is `examples_ybr_color.dcm` of the package pydicom (MIT licence): an echocardiogram of 30 frames.
"""

import io

import numpy as np
import SimpleITK
from matplotlib.figure import Figure
from PIL import Image

import air_jax
from air_jax.visualize.panels import draw_lines
from experiments.gallery.arguments import paths


def main() -> None:
    data, output = paths(__doc__, "data", "output")
    screen = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(data))[:, 22:206, 60:244]  # [T, H, W, 3]
    frames = np.float32(np.sqrt(screen.mean(axis=-1) / 255))
    fixed = np.broadcast_to(frames[:1], frames.shape)
    result = air_jax.register_images(fixed, frames, num_axes=2, smoothness=1.5, normalization="range")
    warped, points = np.asarray(result.warped), np.moveaxis(np.indices(frames.shape[1:]), 0, -1) + result.displacement
    over_time = [np.repeat(images[:, :, 72].T, 6, axis=1) for images in (frames, warped)]
    pictures, names = [], ("heart", "held still", "a line over time", "the same, held still")
    for frame, still, grid in zip(frames, warped, points, strict=True):
        axes = (figure := Figure(figsize=(9, 2.8), layout="constrained")).subplots(1, 4)
        for axis, image, name in zip(axes, (frame, still, *over_time), names, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[], title=name)
        axes[0].autoscale(enable=False)
        draw_lines(axes[0], [*grid[8:-8:8, 8:-8, ::-1], *grid[8:-8, 8:-8:8, ::-1].swapaxes(0, 1)])
        figure.savefig(file := io.BytesIO(), dpi=72)
        pictures.append(Image.open(file).convert("RGB").quantize(32))
    pictures[0].save(output, save_all=True, append_images=pictures[1:], duration=66, loop=0)


if __name__ == "__main__":
    main()
