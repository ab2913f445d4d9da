"""Unrolled demons on whole brains: any subject to any other, in 3-D at 2 mm.

  python -m air_jax.main --config=configs/brains.py --config.dataset.name=brains20_2mm.npz

The model has no parameters, so nothing is trained. Of 20 brains the last five are tested, each registered to every
other. Expected: Dice of 32 labels 0.716 in one pass (0.528 before). With a segmenter: configs/brains_labels.py.
Attention that gates the forces: configs/brains_gated.py. More in docs/results.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("unrolled_demons")
    config.num_train_steps = 0
    config.batch_size = 2
    config.dataset.name = ""  # the path of the stack
    config.dataset.train_fraction = 0.75
    config.dataset.num_validation = 2
    config.model.num_steps = (4, 4, 8)
    config.model.total_sigma = 0.35
    config.loss.similarity, config.loss.window = "lncc", 5
    config.loss.diffusion = 0.1
    config.refine.field = "dense"
    config.refine.update_sigma, config.refine.total_sigma = 1.0, 0.35
    config.refine.num_steps = 180
    config.eval.num_pairs, config.eval.batch_size = 100, 2
    return config.lock()
