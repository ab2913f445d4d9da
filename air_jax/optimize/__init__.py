"""Optimisation on the given pairs: affine and deformable, with the objective of training."""

from air_jax.optimize.affine import register_affine
from air_jax.optimize.affine_parameters import AFFINES
from air_jax.optimize.constraints import Constraints, satisfy
from air_jax.optimize.deformable import compile_refine, refine
from air_jax.optimize.field import Field
from air_jax.optimize.fields import FIELDS, BSplineField, DenseField, VelocityField
from air_jax.optimize.frames import align_frames
from air_jax.optimize.geometry import Geometry
from air_jax.optimize.guidance import Guidance, affine_guide_loss, guide_loss
from air_jax.optimize.landmarks import fit_landmarks
from air_jax.optimize.levels import shares
from air_jax.optimize.solution import Solution
from air_jax.optimize.visibility import fill, objective_value

__all__ = [
    "AFFINES",
    "FIELDS",
    "BSplineField",
    "Constraints",
    "DenseField",
    "Field",
    "Geometry",
    "Guidance",
    "Solution",
    "VelocityField",
    "affine_guide_loss",
    "align_frames",
    "compile_refine",
    "fill",
    "fit_landmarks",
    "guide_loss",
    "objective_value",
    "refine",
    "register_affine",
    "satisfy",
    "shares",
]
