"""AiR on cardiac MR: end-systole to end-diastole of the same patient, in 2-D (ACDC, mid slices).

  python -m air_jax.main --config=configs/cardiac.py --config.dataset.name=acdc_2d_mid_128.npz

Expected, in 11 minutes on two CPU cores: Dice of labels 0.898 on the 20 validation patients (0.665 before), no folds;
with `--config.loss.soft_dice=1`, which trains with labels of the other patients, 0.904; with a segmenter as well
(configs/cardiac_labels.py) 0.918. More in experiments/README.md.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("volumes.py")))["get_config"]()
    config.num_train_steps = 7_000
    config.batch_size = 8
    config.warmup_steps = 200
    config.log_every = 100
    config.eval_every = 500

    config.dataset.normalization = "range"
    config.dataset.pairs = "frames"  # end-diastole is fixed, end-systole moving
    config.dataset.num_validation = 6

    config.augmentation.flip = True
    config.augmentation.rotation = 180.0
    config.augmentation.scale = 0.15
    config.augmentation.translation = 8.0

    # Forces, those of demons, overfit the similarity here: 0.887 in place of 0.898.
    config.model.forces = False
    config.model.stride = (4, 4, 4)
    config.model.patch_size = (12, 12, 12)
    config.model.spacing = (4, 2, 1)
    config.model.num_steps = (2, 2, 2)
    config.model.downsampling = (4, 2, 2)

    config.loss.window = 7
    config.loss.mse = 20.0
    config.loss.folding = 1.0
    config.loss.diffusion = 0.1
    config.refine.update_sigma = 1.0
    config.eval.batch_size = 20
    return config
