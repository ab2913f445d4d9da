"""Attention-gated demons on cardiac MR, with the segmenter of configs/cardiac_segmenter.py.

  python -m air_jax.main --config=configs/cardiac_labels.py --config.dataset.name=acdc_2d_mid_128.npz \
      --config.model.segmenter=runs/cardiac_segmenter

Training uses segmentations; registering needs none. Expected, in 17 minutes of CPU time with the segmenter: Dice 0.916
on the 20 validation patients in one pass (0.665 before), refined 0.921. More in docs/results.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("gated_demons")
    config.num_train_steps, config.batch_size, config.learning_rate = 2_000, 4, 3e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 200, 1.0
    config.log_every, config.eval_every = 100, 500
    config.dataset.name = ""  # the path of the stack
    config.dataset.pairs = "frames"  # end-diastole is fixed, end-systole moving
    config.dataset.num_validation = 6
    config.augmentation.flip, config.augmentation.rotation = True, 180.0
    config.augmentation.scale, config.augmentation.translation = 0.15, 8.0
    config.augmentation.elastic, config.augmentation.elastic_spacing = 3.0, 32
    config.model.stride, config.model.patch_size, config.model.spacing = (4, 4, 4), (12, 12, 12), (4, 2, 1)
    config.model.num_steps = (3, 3, 4)
    config.model.downsampling = (4, 2, 2)
    config.model.min_jacobian = 0.0  # low: a heart empties its left ventricle to less than half
    config.loss.similarity, config.loss.window = "lncc", 7
    config.loss.mse, config.loss.folding, config.loss.diffusion = 20.0, 1.0, 0.1
    config.loss.soft_dice = 1.0
    config.refine.field, config.refine.update_sigma, config.refine.num_steps = "dense", 1.0, 60
    config.eval.num_pairs, config.eval.batch_size = 100, 20
    return config.lock()
