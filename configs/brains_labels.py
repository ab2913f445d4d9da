"""Segmenter and unrolled demons on whole brains at 2 mm, without attention.

  python -m air_jax.main --config=configs/brains_labels.py --config.dataset.name=brains20_2mm.npz \
      --config.model.segmenter=runs/brains_segmenter

Nothing is trained besides the segmenter (configs/brains_segmenter.py). Registering needs no segmentations. Expected:
Dice of 32 labels 0.746 in one pass (0.528 before), refined by 30 steps 0.752. More in docs/results.md.
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
    config.model.num_steps = (4, 4, 24)
    config.model.force_gain = (0.8, 5.0)  # of intensities, of classes
    config.model.force_sigma, config.model.total_sigma = 0.85, 0.25
    config.model.min_jacobian = 0.0
    config.model.expansion = 0.2
    config.loss.similarity, config.loss.window = "lncc", 5
    config.loss.diffusion = 0.1
    config.refine.field = "dense"
    config.refine.update_sigma, config.refine.total_sigma = 0.7, 0.25
    config.refine.overlap = 0.3
    config.refine.num_steps = 30
    config.eval.num_pairs, config.eval.batch_size = 100, 2
    return config.lock()
