import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("mnist.py")))["get_config"]()
    config.unlock()
    config.num_train_steps = 1_450
    config.log_every = 50
    config.eval_every = 250
    config.batch_size = 128
    config.model = ml_collections.ConfigDict()
    config.model.name = "unet"
    config.model.num_squarings = 0
    config.loss.diffusion = 0.01
    return config.lock()
