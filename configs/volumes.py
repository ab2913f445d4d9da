"""Attention-gated demons on one's own images: a folder of NIfTI files (or others), 2-D or 3-D, or a stack (.npz).

  python -m air_jax.main --config=configs/volumes.py --config.dataset.name=images/ [--config.dataset.labels=labels/]

The images are resampled onto the grid of the first one (or of the atlas), by their headers.
`--config.dataset.pairs=atlas` registers all to one of them, named by `--config.dataset.atlas`;
`--config.dataset.pairs=pairs.csv` registers those of a list with the columns fixed, moving and, optionally, split.
With labels, validation and test pairs are scored by them; `--config.loss.soft_dice=1` also trains with them.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("gated_demons")
    config.num_train_steps = 4_000
    config.batch_size = 2
    config.schedule = "cosine"
    config.warmup_steps = 20
    config.clip_norm = 1.0
    config.log_every = 50
    config.eval_every = 500
    config.dataset.name = ""  # the path of a folder or of a stack
    config.dataset.normalization = "percentile"
    config.dataset.num_validation = 2
    config.loss.similarity = "lncc"
    config.loss.diffusion = 0.1
    config.refine.field = "dense"
    config.refine.num_steps = 180
    config.eval.num_pairs = 100
    config.eval.batch_size = 2
    return config.lock()
