"""Scores of a registration.

Scores of images, displacements and the Dice of segmentations take batches and return one value for each pair, `[B]`.
They run inside a jitted evaluation step. `hd95` (SciPy) and landmark errors take one pair at a time.
"""

from air_jax.metrics.folding import (
    any_corner_folding_percent,
    compressed_percent,
    displacement_scores,
    folding_percent,
    ndv_percent,
    sd_log_jacobian,
    sd_log_jacobian_learn2reg,
)
from air_jax.metrics.images import endpoint_errors, image_scores, mask_dice, mse
from air_jax.metrics.landmarks import tre
from air_jax.metrics.segmentations import label_dice, label_mean
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
    "tre",
]
