"""Attention-gated demons on hippocampus MR, trained by similarity (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus_gated.py --config.dataset.name=hippocampus_48x64x48.npz

Expected, in 10 minutes of CPU time: Dice 0.750 on 100 validation pairs (0.564 before), refined by 120 steps 0.772.
Training lowers the Dice of the same model untrained, which is configs/hippocampus.py (0.754). More in docs/results.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("gated_demons")
    config.num_train_steps, config.batch_size, config.learning_rate = 150, 4, 5e-4
    config.schedule, config.warmup_steps, config.clip_norm = "cosine", 20, 0.5
    config.log_every, config.eval_every = 25, 50
    config.dataset.name = ""  # the path of the stack
    config.dataset.normalization = "foreground"
    config.dataset.num_validation = 10
    config.model.num_steps = (4, 4, 6)
    config.model.edges = True
    config.loss.similarity, config.loss.window, config.loss.edges = "lncc", 5, True
    config.loss.diffusion = 0.1
    config.refine.field = "dense"
    config.refine.update_sigma = 2.0
    config.refine.num_steps = 180
    config.eval.num_pairs, config.eval.batch_size = 100, 10
    return config.lock()
