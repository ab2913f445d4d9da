"""AiR on scikit-learn's 1,797 bundled handwritten digits (real, 8 x 8, upsampled to 28 x 28), without any download.

  python -m air_jax.main --config=configs/digits.py

The model and all other settings are those of configs/mnist.py. Expected results: experiments/README.md.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("mnist.py")))["get_config"]()
    config.num_train_steps = 2_000
    config.log_every = 100
    config.eval_every = 500
    config.dataset.name = "digits"
    config.dataset.num_validation = 200
    return config
