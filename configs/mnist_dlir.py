"""DLIR's convolutional network with a B-spline control grid on MNIST, the paper's reference [7].

  python -m air_jax.main --config=configs/mnist_dlir.py

Losses, data, steps and scores are those of configs/mnist.py. Results stand in experiments/README.md.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("mnist.py")))["get_config"]()
    config.unlock()
    config.num_train_steps = 5_800
    config.batch_size = 32
    config.schedule = "cosine"
    config.log_every = 100

    config.model = ml_collections.ConfigDict()
    config.model.name = "dlir"
    config.model.num_poolings = 2  # control points 4 pixels apart
    config.model.width = 32  # features of each convolution
    config.model.dtype = "float32"
    return config.lock()
