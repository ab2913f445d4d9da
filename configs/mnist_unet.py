"""VoxelMorph's U-Net on MNIST: a convolutional baseline with the losses, data and scores of AiR.

  python -m air_jax.main --config=configs/mnist_unet.py

`--config.loss.diffusion=0.05` is smoother, `--config.model.integration_steps=7` predicts a velocity field. Expected,
after 186,000 pairs: Dice 0.939 on random test pairs, MSE 0.0064, folding 6.6 %. More in docs/results.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("unet")
    config.num_train_steps = 5_800
    config.batch_size = 32
    config.schedule = "cosine"
    config.log_every = 100
    config.loss.diffusion = 0.01
    return config.lock()
