"""Digits of MNIST that become one another: `python -m experiments.gallery.morph --output=morph.gif`.

The pairs are registered as they are, with nothing to train. The set is prepared once by TensorFlow Datasets.
"""

import numpy as np
from PIL import Image

import air_jax
from air_jax.data import load_dataset
from air_jax.visualize import morph_gif
from experiments.gallery.arguments import paths

SIDE = 112  # pixels, four times those of MNIST
PAIRS = ((3, 3), (2, 2), (4, 9), (0, 6), (5, 5), (7, 1))  # digits of the fixed and the moving image


def main() -> None:
    (output,) = paths(__doc__, "output")
    test = load_dataset("mnist", train_fraction=0.8, num_validation=2_000).test
    chosen = [(np.flatnonzero(test.classes == a)[0], np.flatnonzero(test.classes == b)[1]) for a, b in PAIRS]
    fixed, moving = (np.stack([_enlarged(test.images[pair[side]]) for pair in chosen]) for side in (0, 1))
    result = air_jax.register_images(fixed, moving, num_axes=2, similarity="mse")
    output.write_bytes(morph_gif(fixed, moving, np.asarray(result.displacement), num_frames=14))


def _enlarged(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image[..., 0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32)[..., None] / 255


if __name__ == "__main__":
    main()
