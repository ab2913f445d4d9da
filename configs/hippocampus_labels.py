"""AiR on hippocampus MR, trained with labels of the training subjects, too.

  python -m air_jax.main --config=configs/hippocampus_labels.py --config.dataset.name=hippocampus_48x64x48.npz

Expected, in 35 minutes of CPU time: Dice of labels 0.770 on 100 validation pairs (0.564 before), and still rising. More
in experiments/README.md.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("hippocampus.py")))["get_config"]()
    config.num_train_steps = 4_000
    config.learning_rate = 1.5e-3
    config.warmup_steps = 200
    config.log_every = 50
    config.eval_every = 500

    # Without forces, with which labels teach it no more in the same time (0.769), and the field is rougher.
    config.model.forces = False
    config.model.edges = False
    config.model.stride = (4, 4, 4)
    config.model.patch_size = (12, 12, 12)
    config.model.spacing = (2, 2, 1)
    config.model.num_steps = (2, 3, 3)
    config.model.downsampling = (4, 2, 2)

    config.loss.soft_dice = 1.0
    config.loss.edges = False
    config.loss.diffusion = 0.3
    return config
