"""DLIR's convolutional network with a B-spline control grid on MNIST, the paper's reference [7].

  python -m air_jax.main --config=configs/mnist_dlir.py

Steps, batches and data are those of configs/mnist_unet.py. docs/results.md scores a run of 2,000
steps: Dice 0.725.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("dlir")
    config.num_train_steps = 5_800
    config.batch_size = 32
    config.schedule = "cosine"
    config.log_every = 100
    return config.lock()
