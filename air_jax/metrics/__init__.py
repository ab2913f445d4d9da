"""Scores of a registration. What is `jax.numpy` gives one value a pair `[B]`, and runs inside a jitted evaluation step.

Images, displacements and Dice of labels come in batches; `hd95` (SciPy) and landmarks one pair at a time.
"""

from air_jax.losses import mse
from air_jax.metrics.folding import (
    any_corner_folding_percent,
    compressed_percent,
    displacement_scores,
    folding_percent,
    ndv_percent,
    sd_log_jacobian,
    sd_log_jacobian_learn2reg,
)
from air_jax.metrics.images import endpoint_errors, image_scores, mask_dice
from air_jax.metrics.labels import label_dice, label_mean
from air_jax.metrics.landmarks import transform_points, tre
from air_jax.metrics.surfaces import hd95, label_hd95

__all__ = [
    "any_corner_folding_percent",
    "compressed_percent",
    "displacement_scores",
    "endpoint_errors",
    "folding_percent",
    "hd95",
    "image_scores",
    "label_dice",
    "label_hd95",
    "label_mean",
    "mask_dice",
    "mse",
    "ndv_percent",
    "sd_log_jacobian",
    "sd_log_jacobian_learn2reg",
    "transform_points",
    "tre",
]
