"""DLIR's convolutional network with a B-spline control grid on MNIST, the paper's reference [7].

  python -m air_jax.main --config=configs/mnist_dlir.py

Data, steps and scores are those of configs/mnist_unet.py. Results stand in experiments/README.md.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("mnist_unet.py")))["get_config"]()
    config.unlock()
    config.model = ml_collections.ConfigDict()
    config.model.name = "dlir"
    config.model.num_poolings = 2  # control points 4 pixels apart
    config.model.width = 32  # features of each convolution
    config.model.dtype = "float32"

    config.loss.diffusion = 0.0  # the control grid is smooth enough
    return config.lock()
