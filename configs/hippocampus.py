"""AiR on hippocampus MR: any subject to any other, in 3-D (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus.py --config.dataset.name=hippocampus_48x64x48.npz

Expected, in 10 minutes of CPU time: Dice of labels 0.750 on 100 validation pairs (0.564 before), refined by 120
steps 0.772. The network's steps follow forces from the start, and training without labels adds nothing to Dice, see
experiments/README.md; with labels: configs/hippocampus_labels.py.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("volumes.py")))["get_config"]()
    config.num_train_steps = 150
    config.batch_size = 4
    config.learning_rate = 5e-4
    config.clip_norm = 0.5
    config.log_every = 25
    config.eval_every = 50
    config.dataset.normalization = "foreground"
    config.dataset.num_validation = 10

    config.model.num_steps = (4, 4, 6)
    config.model.edges = True

    config.loss.window = 5
    config.loss.edges = True
    config.refine.update_sigma = 2.0
    config.eval.batch_size = 10
    return config
