"""Losses: plain functions that return one value for each pair, `[B]`, and the objective made of them.

A new loss is a function and a line in the dict of its module: `SIMILARITIES`, `REGULARIZERS` or `CONSISTENCIES`.
"""

from air_jax.losses.channels import ChannelMean
from air_jax.losses.consistency import (
    CONSISTENCIES,
    gradient_inverse_consistency_loss,
    inverse_consistency_loss,
)
from air_jax.losses.correlation import lncc_loss, ncc_loss, squared_lncc_loss
from air_jax.losses.information import mi_loss, nmi_loss
from air_jax.losses.mind import mind_ssc_loss
from air_jax.losses.objective import Objective, make_objective
from air_jax.losses.overlap import dice_loss, one_hot, pooled_dice_loss, segmentation_loss
from air_jax.losses.regularization import REGULARIZERS, bending_loss, diffusion_loss, folding_loss, volume_loss
from air_jax.losses.similarity import SIMILARITIES, Similarity, mse_loss

__all__ = [
    "CONSISTENCIES",
    "REGULARIZERS",
    "SIMILARITIES",
    "ChannelMean",
    "Objective",
    "Similarity",
    "bending_loss",
    "dice_loss",
    "diffusion_loss",
    "folding_loss",
    "gradient_inverse_consistency_loss",
    "inverse_consistency_loss",
    "lncc_loss",
    "make_objective",
    "mi_loss",
    "mind_ssc_loss",
    "mse_loss",
    "ncc_loss",
    "nmi_loss",
    "one_hot",
    "pooled_dice_loss",
    "segmentation_loss",
    "squared_lncc_loss",
    "volume_loss",
]
