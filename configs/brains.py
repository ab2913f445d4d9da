"""AiR on whole brains: any subject to any other, in 3-D at 2 mm.

  python -m air_jax.main --config=configs/brains.py --config.dataset.name=brains20_2mm.npz

Of 20 brains, 13 train, two choose the checkpoint, and the last five are tested, each registered to every other.
Expected, in 15 minutes of CPU time: Dice of 32 labels 0.705 in one pass (0.528 before), refined 0.728. The untrained
network has 0.716: its steps follow forces from the start, and training on similarity alone adds nothing to Dice. With
labels: configs/brains_labels.py. More in experiments/README.md.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("volumes.py")))["get_config"]()
    config.num_train_steps = 200
    config.batch_size = 2
    config.log_every = 25
    config.eval_every = 100
    config.dataset.normalization = "range"
    config.dataset.train_fraction = 0.75
    config.dataset.num_validation = 2

    config.model.num_steps = (4, 4, 8)
    config.model.total_sigma = 0.35

    config.loss.window = 5
    config.refine.update_sigma = 1.0
    config.refine.total_sigma = 0.35
    config.eval.batch_size = 2
    return config
