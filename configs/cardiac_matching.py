"""Matching attention on cardiac MR, trained by similarity: end-systole to end-diastole of the same patient (ACDC, 2-D).

  python -m air_jax.main --config=configs/cardiac_matching.py --config.dataset.name=acdc_2d_mid_128.npz

Attention is the registration: docs/matching.md. The scores, with their controls: experiments/matching/README.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("matching_air")
    config.num_train_steps, config.batch_size, config.learning_rate = 6_000, 8, 3e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 200, 1.0
    config.log_every, config.eval_every = 50, 500
    config.dataset.name = ""  # the path of the stack
    config.dataset.pairs = "frames"  # end-diastole is fixed, end-systole moving
    config.dataset.num_validation = 6
    config.augmentation.flip = True
    config.augmentation.rotation = 180.0
    config.augmentation.scale = 0.15
    config.augmentation.translation = 8.0
    config.model.downsampling, config.model.num_steps, config.model.total_sigma = (4, 2, 2), (3, 3, 2), 0.7
    config.model.stride, config.model.patch_size = (2, 2, 1), (6, 6, 5)
    config.loss.similarity, config.loss.window = "lncc", 7
    config.loss.mse, config.loss.folding, config.loss.diffusion = 20.0, 1.0, 0.1
    config.refine.field, config.refine.update_sigma, config.refine.num_steps = "dense", 1.0, 60
    config.eval.num_pairs, config.eval.batch_size = 100, 20
    return config.lock()
