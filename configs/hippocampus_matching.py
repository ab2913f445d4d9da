"""Matching attention on hippocampus MR, trained by similarity, in 3-D (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus_matching.py --config.dataset.name=hippocampus_48x64x48.npz

Attention is the registration: docs/matching.md. Trained with segmentations also:
configs/hippocampus_matching_labels.py.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("matching_air")
    config.num_train_steps, config.batch_size, config.learning_rate = 6_000, 2, 2e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 200, 1.0
    config.log_every, config.eval_every = 25, 250
    config.dataset.name = ""  # the path of the stack
    config.dataset.normalization = "foreground"
    config.dataset.num_validation = 10
    config.model.downsampling, config.model.num_steps, config.model.total_sigma = (4, 2, 1), (3, 3, 2), 1.0
    config.model.stride, config.model.patch_size, config.model.radius = (2, 2, 4), (6, 6, 4), (2, 1, 1)
    config.loss.similarity, config.loss.window, config.loss.edges = "lncc", 5, True
    config.loss.diffusion = 0.1
    config.refine.field = "dense"
    config.refine.update_sigma = 2.0
    config.refine.num_steps = 180
    config.eval.num_pairs, config.eval.batch_size = 100, 10
    return config.lock()
