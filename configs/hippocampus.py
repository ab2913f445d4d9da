"""AiR on hippocampus MR: any subject to any other, in 3-D (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus.py --config.dataset.name=hippocampus_48x64x48.npz

`--config.loss.soft_dice=1` also trains with the labels of the training subjects. Expected, in half an hour of CPU time:
Dice of labels 0.712 on 100 validation pairs (0.564 before), refined 0.773; with labels 0.770. More in
experiments/README.md.
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
    config.refine.fluid_sigma = 2.0
    config.eval.batch_size = 10
    return config
