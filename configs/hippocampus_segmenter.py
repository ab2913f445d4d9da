"""Segmenter on hippocampus MR, for configs/hippocampus_labels.py (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus_segmenter.py --config.dataset.name=hippocampus_48x64x48.npz

Augmentation keeps it from learning the training subjects by heart.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("segmenter")
    config.num_train_steps, config.batch_size, config.learning_rate = 2_600, 2, 8e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 20, 0.5
    config.log_every, config.eval_every = 50, 1_300
    config.dataset.name = ""  # the path of the stack
    config.dataset.normalization = "foreground"
    config.dataset.num_validation = 10
    config.augmentation.rotation = 10.0
    config.augmentation.scale = 0.1
    config.augmentation.translation = 2.0
    config.model.num_classes = 3
    config.eval.num_pairs, config.eval.batch_size = 100, 10
    return config.lock()
