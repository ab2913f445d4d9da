"""AiR on one's own images: a folder of NIfTI files (or others that air_jax reads), 2-D or 3-D, or a stack (.npz).

  python -m air_jax.main --config=configs/volumes.py --config.dataset.name=images/ [--config.dataset.labels=labels/]

The images are brought onto the grid of the first one (or of the atlas), by their headers.
`--config.dataset.pairs=atlas` registers all to one of them, named by `--config.dataset.atlas`;
`--config.dataset.pairs=pairs.csv` registers those of a list with the columns fixed, moving and, if wished, split.
With labels, validation and test pairs are scored by them; `--config.loss.soft_dice=1` trains with them as well.
"""

import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("mnist_best.py")))["get_config"]()
    config.num_train_steps = 4_000
    config.batch_size = 2
    config.learning_rate = 1e-3
    config.warmup_steps = 20
    config.clip_norm = 1.0
    config.log_every = 50
    config.eval_every = 500

    config.dataset.name = ""  # the path of a folder or of a stack
    config.dataset.normalization = "percentile"
    config.dataset.num_validation = 2

    # On grids of 4, 2 and 1 times the voxels; patches are 8 voxels apart on the last, for as many tokens as before it.
    config.model.stride = (4, 4, 8)
    config.model.patch_size = (12, 12, 8)
    config.model.spacing = (4, 4, 8)
    config.model.num_steps = (4, 4, 4)
    config.model.downsampling = (4, 2, 1)
    config.model.relative_radius = 4
    config.model.forces = True

    config.loss.similarity = "lncc"
    config.loss.folding = 0.0
    config.loss.diffusion = 0.1

    config.refine.field = "dense"
    config.refine.num_steps = 180

    config.eval.num_pairs = 100
    config.eval.batch_size = 2
    return config
