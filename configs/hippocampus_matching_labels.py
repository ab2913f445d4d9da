"""Matching attention on hippocampus MR, trained by segmentations, in 3-D (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus_matching_labels.py --config.dataset.name=hippocampus_48x64x48.npz

The overlap of the training subjects' segmentations after warping trains the matching network itself. There is no
segmenter, and registering needs no segmentations.

Expected, in 70 minutes of CPU time: Dice 0.849 on 100 validation pairs (0.564 before). It compresses; with
`--config.loss.volume=1.0 --config.loss.diffusion=0.1 --config.num_train_steps=3500` 0.832, and much less compression.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("matching_unet")
    config.num_train_steps, config.batch_size, config.learning_rate = 3_000, 2, 3e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 100, 1.0
    config.log_every, config.eval_every = 50, 250
    config.dataset.name = ""  # the path of the stack
    config.dataset.normalization = "foreground"
    config.dataset.num_validation = 10
    config.augmentation.rotation, config.augmentation.scale, config.augmentation.translation = 10.0, 0.1, 2.0
    config.loss.similarity, config.loss.window, config.loss.edges = "lncc", 5, True  # of refinement only
    config.loss.train_similarity = False
    config.loss.soft_dice, config.loss.diffusion, config.loss.folding = 1.0, 0.03, 1.0
    config.refine.field = "dense"  # no steps: refinement knows no segmentations
    config.refine.update_sigma = 2.0
    config.eval.num_pairs, config.eval.batch_size = 100, 10
    return config.lock()
