"""Uses an installed package as its user would: `python .ci/use_package.py light|files|train`, outside of the clone."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import air_jax

assert "site-packages" in air_jax.__file__, air_jax.__file__
points = np.stack(np.mgrid[:48, :48], axis=-1)
fixed, moving = (np.float32(np.linalg.norm(points - centre, axis=-1) < 12) for centre in ((22, 22), (26, 25)))


def call(*command):
    """Runs `air-jax` with these arguments."""
    subprocess.run(["air-jax", *command], check=True)


if sys.argv[1] == "light":
    result = air_jax.register_images(fixed, moving)
    before, after = (float(np.mean((fixed - image) ** 2)) for image in (moving, np.asarray(result.warped)))
    assert after < before / 4, (before, after)
    call()
    call("doctor")
if sys.argv[1] == "files":
    from PIL import Image

    for name, image in (("fixed", fixed), ("moving", moving)):
        Image.fromarray(np.uint8(255 * image)).save(f"{name}.png")
    call("register", "--fixed=fixed.png", "--moving=moving.png", "--output_dir=registered")
    assert Path("registered/report.html").is_file()
if sys.argv[1] == "train":
    registration = air_jax.load("runs/digits")
    assert registration.register(fixed[:28, :28], moving[:28, :28]).displacement.shape == (28, 28, 2)
