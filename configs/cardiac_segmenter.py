"""Segmenter on cardiac MR, for configs/cardiac_labels.py: which label each voxel of an image has (ACDC, mid slices).

  python -m air_jax.main --config=configs/cardiac_segmenter.py --config.dataset.name=acdc_2d_mid_128.npz

Augmentation keeps it from learning the few patients by heart.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("segmenter")
    config.num_train_steps, config.batch_size, config.learning_rate = 5_000, 4, 3e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 200, 1.0
    config.log_every, config.eval_every = 100, 500
    config.dataset.name = ""  # the path of the stack
    config.dataset.pairs = "frames"
    config.dataset.num_validation = 6
    config.augmentation.flip = True
    config.augmentation.rotation = 180.0
    config.augmentation.scale = 0.15
    config.augmentation.translation = 8.0
    config.augmentation.elastic = 3.0
    config.augmentation.elastic_spacing = 32
    config.model.num_classes = 4
    config.eval.num_pairs, config.eval.batch_size = 100, 20
    return config.lock()
