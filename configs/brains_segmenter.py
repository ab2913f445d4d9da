"""Segmenter on whole brains at 2 mm, for configs/brains_labels.py.

  python -m air_jax.main --config=configs/brains_segmenter.py --config.dataset.name=brains20_2mm.npz

Augmentation keeps it from learning the training subjects by heart.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("segmenter")
    config.num_train_steps, config.batch_size, config.learning_rate = 1_000, 1, 8e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 20, 0.5
    config.log_every, config.eval_every = 20, 500
    config.dataset.name = ""  # the path of the stack
    config.dataset.train_fraction = 0.75
    config.dataset.num_validation = 2
    config.augmentation.rotation = 5.0
    config.augmentation.scale = 0.05
    config.augmentation.translation = 1.0
    config.model.num_classes = 33
    config.eval.num_pairs, config.eval.batch_size = 100, 2
    return config.lock()
