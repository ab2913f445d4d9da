"""Grid, sampler and displacement algebra: pure functions on `[B, *S, N]` displacements in voxel units."""

from air_jax.transforms.grid import identity_grid
from air_jax.transforms.jacobian import corner_jacobian_determinant, jacobian_determinant
from air_jax.transforms.sampler import warp

__all__ = ["corner_jacobian_determinant", "identity_grid", "jacobian_determinant", "warp"]
