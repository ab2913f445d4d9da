"""Optimisation on the pairs at hand, with the objective that models are trained with."""

from air_jax.optimize.affine import AFFINES, register_affine
from air_jax.optimize.deformable import refine
from air_jax.optimize.fields import FIELDS

__all__ = ["AFFINES", "FIELDS", "refine", "register_affine"]
