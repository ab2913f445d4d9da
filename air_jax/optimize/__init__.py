"""Optimisation on the pairs at hand, with the objective that models are trained with."""

from air_jax.optimize.affine import AFFINES, register_affine
from air_jax.optimize.deformable import compile_refine, refine
from air_jax.optimize.fields import FIELDS, TOTAL_SIGMA, UPDATE_SIGMA
from air_jax.optimize.levels import shares

__all__ = [
    "AFFINES",
    "FIELDS",
    "TOTAL_SIGMA",
    "UPDATE_SIGMA",
    "compile_refine",
    "refine",
    "register_affine",
    "shares",
]
