"""Losses: plain functions, one value a pair `[B]`. A new one is a function and a line in its module's dict."""

from air_jax.losses.objective import Objective, make_objective
from air_jax.losses.regularization import REGULARIZERS, diffusion, folding
from air_jax.losses.similarity import SIMILARITIES, mse

__all__ = ["REGULARIZERS", "SIMILARITIES", "Objective", "diffusion", "folding", "make_objective", "mse"]
