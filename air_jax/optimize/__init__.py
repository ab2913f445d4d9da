"""Optimisation on the given pairs: affine and deformable, with the objective of training."""

from air_jax.optimize.affine import AFFINES, register_affine
from air_jax.optimize.deformable import Solution, compile_refine, refine
from air_jax.optimize.fields import FIELDS, BSplineField, DenseField, Field, VelocityField
from air_jax.optimize.frames import align_frames
from air_jax.optimize.geometry import Geometry
from air_jax.optimize.levels import shares
from air_jax.optimize.visibility import fill, objective_value

__all__ = [
    "AFFINES",
    "FIELDS",
    "BSplineField",
    "DenseField",
    "Field",
    "Geometry",
    "Solution",
    "VelocityField",
    "align_frames",
    "compile_refine",
    "fill",
    "objective_value",
    "refine",
    "register_affine",
    "shares",
]
