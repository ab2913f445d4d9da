"""Matching attention on real label maps of brains with random contrasts and deformations, in 3-D (SynthMorph, brains).

  python -m air_jax.main --config=configs/brains_synthetic.py --config.dataset.name=brains20_2mm.npz

Each training pair is one subject's label map, deformed twice and given two contrasts. Checkpoints are chosen on the
images of different subjects. `--config.dataset.name` is the path of the stack, which needs segmentations.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("matching_air")
    config.num_train_steps, config.batch_size, config.learning_rate = 10_000, 1, 2e-3
    config.warmup_steps, config.clip_norm = 200, 1.0
    config.log_every, config.eval_every = 25, 250
    config.dataset.name = ""  # the path of the stack
    config.dataset.train_fraction, config.dataset.num_validation = 0.75, 3
    config.synthesis.velocity, config.synthesis.spacings = 4.0, (16, 32)
    config.model.downsampling, config.model.num_steps, config.model.total_sigma = (4, 2, 2), (3, 3, 2), 1.0
    config.model.stride, config.model.patch_size, config.model.radius = (2, 2, 2), (6, 6, 6), (2, 1, 1)
    config.model.edge_tensor, config.model.feed_forward = True, 64
    config.loss.similarity, config.loss.train_similarity = "mind_ssc", False  # of refinement only
    config.loss.soft_dice, config.loss.endpoint = 1.0, 0.1
    config.loss.diffusion, config.loss.folding = 0.02, 1.0
    config.refine.field, config.refine.update_sigma = "dense", 2.0
    config.eval.num_pairs, config.eval.batch_size = 12, 1
    return config.lock()
