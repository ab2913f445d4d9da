"""VoxelMorph's U-Net on MNIST: the convolutional opponent, with the same losses, data, steps and scores as AiR.

  python -m air_jax.main --config=configs/mnist_unet.py

`--config.loss.diffusion=0.05` is smoother, `--config.model.integration_steps=7` predicts a velocity field. All other
settings are those of configs/mnist.py. Expected, after 186,000 pairs: Dice 0.939 on random test pairs, MSE 0.0064,
folding 6.6 %; more results stand in experiments/README.md.
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
    config.model.name = "unet"
    config.model.encoder = (16, 32, 32, 32)  # features of each level going down
    config.model.decoder = (32, 32, 32, 32)  # and going up
    config.model.final = (32, 16, 16)  # and at full resolution
    config.model.integration_steps = 0  # more: a velocity field, integrated by scaling and squaring
    config.model.dtype = "float32"

    config.loss.diffusion = 0.01
    return config.lock()
