"""Unrolled demons on hippocampus MR: any subject to any other, in 3-D (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus.py --config.dataset.name=hippocampus_48x64x48.npz

The model has no parameters, so nothing is trained. Expected: Dice 0.754 on 100 validation pairs (0.564 before). With a
segmenter: configs/hippocampus_labels.py. Attention that gates the forces: `configs/hippocampus_gated.py`. More in
docs/results.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("unrolled_demons")
    config.num_train_steps = 0
    config.batch_size = 2
    config.dataset.name = ""  # the path of the stack
    config.dataset.normalization = "foreground"
    config.dataset.num_validation = 10
    config.model.num_steps = (4, 4, 6)
    config.model.edges = True
    config.loss.similarity, config.loss.window, config.loss.edges = "lncc", 5, True
    config.loss.diffusion = 0.1
    config.refine.field = "dense"
    config.refine.update_sigma = 2.0
    config.refine.num_steps = 180
    config.eval.num_pairs, config.eval.batch_size = 100, 10
    return config.lock()
