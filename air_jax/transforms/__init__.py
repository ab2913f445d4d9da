"""Grid, sampler and displacement algebra: pure functions on `[B, *S, N]` displacements in voxel units."""

from air_jax.transforms.bspline import bspline, control_shape
from air_jax.transforms.displacement import compose, exponential, inverse, resize
from air_jax.transforms.grid import identity_grid
from air_jax.transforms.jacobian import (
    cell_jacobian_determinants,
    corner_jacobian_determinant,
    jacobian_determinant,
    simplex_jacobian_determinants,
)
from air_jax.transforms.sampler import sample, warp

__all__ = [
    "bspline",
    "cell_jacobian_determinants",
    "compose",
    "control_shape",
    "corner_jacobian_determinant",
    "exponential",
    "identity_grid",
    "inverse",
    "jacobian_determinant",
    "resize",
    "sample",
    "simplex_jacobian_determinants",
    "warp",
]
