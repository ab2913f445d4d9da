"""Matching attention on random shapes and contrasts, without any measured image (2-D): for images of any contrast.

  python -m air_jax.main --config=configs/shapes.py

The recipe is SynthMorph's (Hoffmann et al. 2022): two deformations and two contrasts of one random label map. The loss
is the overlap of the labels, the distance from the true displacement, and smoothness, without image similarity.

Expected, in 30 minutes of CPU time: Dice 0.804 on test shapes (0.666 before); MNIST, enlarged, 0.736, and 0.724
with inverted moving images; cardiac 0.837 with both. More in experiments/synthetic/README.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("matching_air")
    config.num_train_steps, config.batch_size, config.learning_rate = 8_000, 8, 3e-3
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 200, 1.0
    config.log_every, config.eval_every = 50, 1_000
    config.dataset.name = "shapes"
    config.synthesis.velocity, config.synthesis.spacings = 4.0, (8, 16, 24)
    config.model.downsampling, config.model.num_steps, config.model.total_sigma = (4, 2, 1), (3, 3, 3), 0.7
    config.model.stride, config.model.patch_size, config.model.radius = (2, 2, 2), (6, 6, 6), (2, 2, 2)
    config.model.edge_tensor, config.model.feed_forward = True, 64
    config.loss.similarity, config.loss.train_similarity = "mind_ssc", False  # of refinement only
    config.loss.soft_dice, config.loss.endpoint = 1.0, 0.03
    config.loss.diffusion, config.loss.folding = 0.005, 1.0
    config.refine.field, config.refine.update_sigma = "dense", 1.0
    config.eval.num_pairs, config.eval.batch_size = 100, 20
    return config.lock()
