"""AiR on whole brains: any subject to any other, in 3-D at 2 mm.

  python -m air_jax.main --config=configs/brains.py --config.dataset.name=brains20_2mm.npz
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("volumes.py")))["get_config"]()
    config.num_train_steps = 600
    config.batch_size = 1
    config.dataset.normalization = "range"
    config.dataset.train_fraction = 0.75
    config.dataset.num_validation = 2
    config.eval.batch_size = 1
    return config
