"""Grid, sampler and displacement algebra: pure functions on `[B, *S, N]` displacements in voxel units."""

from air_jax.transforms.affine import apply_affine, between_grids, compose_affine, invert_affine
from air_jax.transforms.bsplines import bspline, control_shape
from air_jax.transforms.displacement import compose, exponential, resize, transform_points
from air_jax.transforms.filters import shrink, smooth, with_edges
from air_jax.transforms.grid import identity_grid
from air_jax.transforms.inversion import inverse
from air_jax.transforms.jacobian import (
    cell_jacobian_determinants,
    corner_jacobian_determinant,
    jacobian_determinant,
    simplex_jacobian_determinants,
)
from air_jax.transforms.sampling.sampler import sample, warp

__all__ = [
    "apply_affine",
    "between_grids",
    "bspline",
    "cell_jacobian_determinants",
    "compose",
    "compose_affine",
    "control_shape",
    "corner_jacobian_determinant",
    "exponential",
    "identity_grid",
    "inverse",
    "invert_affine",
    "jacobian_determinant",
    "resize",
    "sample",
    "shrink",
    "simplex_jacobian_determinants",
    "smooth",
    "transform_points",
    "warp",
    "with_edges",
]
