"""Losses: plain functions, one value a pair `[B]`. A new one is a function and a line in its module's dict."""

from air_jax.losses.consistency import CONSISTENCIES, gradient_inverse_consistency, inverse_consistency
from air_jax.losses.correlation import lncc, ncc, squared_lncc
from air_jax.losses.information import mi
from air_jax.losses.mind import mind_ssc
from air_jax.losses.objective import Objective, Similarity, make_objective, with_overlap
from air_jax.losses.overlap import one_hot, pooled_dice, segmentation, soft_dice
from air_jax.losses.regularization import REGULARIZERS, bending, diffusion, folding
from air_jax.losses.similarity import SIMILARITIES, mse

__all__ = [
    "CONSISTENCIES",
    "REGULARIZERS",
    "SIMILARITIES",
    "Objective",
    "Similarity",
    "bending",
    "diffusion",
    "folding",
    "gradient_inverse_consistency",
    "inverse_consistency",
    "lncc",
    "make_objective",
    "mi",
    "mind_ssc",
    "mse",
    "ncc",
    "one_hot",
    "pooled_dice",
    "segmentation",
    "soft_dice",
    "squared_lncc",
    "with_overlap",
]
