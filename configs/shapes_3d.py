"""Matching attention on random shapes and contrasts in volumes, without any measured image: configs/shapes.py in 3-D.

python -m air_jax.main --config=configs/shapes_3d.py
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("matching_air")
    config.num_train_steps, config.batch_size, config.learning_rate = 10_000, 2, 2e-3
    config.warmup_steps, config.clip_norm = 200, 1.0
    config.log_every, config.eval_every = 25, 250
    config.dataset.name = "shapes_3d"
    config.synthesis.velocity = 2.5
    config.model.downsampling, config.model.num_steps, config.model.total_sigma = (4, 2, 1), (3, 3, 2), 1.0
    config.model.stride, config.model.patch_size, config.model.radius = (2, 2, 4), (6, 6, 4), (2, 1, 1)
    config.model.edge_tensor, config.model.feed_forward = True, 64
    config.loss.similarity, config.loss.train_similarity = "mind_ssc", False  # of refinement only
    config.loss.soft_dice, config.loss.endpoint = 1.0, 0.1
    config.loss.diffusion, config.loss.folding = 0.02, 1.0
    config.refine.field, config.refine.update_sigma = "dense", 2.0
    config.eval.num_pairs, config.eval.batch_size = 20, 2
    return config.lock()
