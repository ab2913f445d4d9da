"""Coarse-to-fine AiR on cardiac MR: end-systole to end-diastole of the same patient, in 2-D (ACDC, mid slices).

  python -m air_jax.main --config=configs/cardiac.py --config.dataset.name=acdc_2d_mid_128.npz

Expected, in 11 minutes on two CPU cores: Dice 0.898 on the 20 validation patients (0.665 before), no folds. With
`--config.loss.soft_dice=1`, which trains with segmentations of the other patients: 0.904. With a segmenter:
configs/cardiac_labels.py. More in docs/results.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("pyramid_air")
    config.num_train_steps, config.batch_size = 7_000, 8
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 200, 1.0
    config.log_every, config.eval_every = 100, 500
    config.dataset.name = ""  # the path of the stack
    config.dataset.pairs = "frames"  # end-diastole is fixed, end-systole moving
    config.dataset.num_validation = 6
    config.augmentation.flip = True
    config.augmentation.rotation = 180.0
    config.augmentation.scale = 0.15
    config.augmentation.translation = 8.0
    config.model.num_steps = (2, 2, 2)
    config.model.downsampling = (4, 2, 2)
    config.model.relative_radius = 4
    config.loss.similarity, config.loss.window = "lncc", 7
    config.loss.mse, config.loss.folding, config.loss.diffusion = 20.0, 1.0, 0.1
    config.refine.field, config.refine.update_sigma, config.refine.num_steps = "dense", 1.0, 180
    config.eval.num_pairs, config.eval.batch_size = 100, 20
    return config.lock()
