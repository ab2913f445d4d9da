"""From a deformation and an affine map to fields between two files' grids, each in voxels of its own grid.

A deformation `u` lives on the fixed grid and is followed by `matrix`, from fixed to moving voxels. The files' headers
alone say `voxel_to_voxel`, from fixed to moving voxels of the same physical place. The whole map is one displacement `d` of the
fixed grid, in its voxels: `voxel_to_voxel(p + d(p)) = matrix(p + u(p))`, so that the moving image is interpolated once.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.transforms import apply_affine, identity_grid, inverse, jacobian_determinant, sample


def voxel_matrix(fixed_affine: np.ndarray, moving_affine: np.ndarray) -> np.ndarray:
    """`[N, N + 1]` float64: from the fixed image's voxels to the moving image's, of the same physical place.

    Args:
      fixed_affine, moving_affine: `[N+1, N+1]`, array indices to physical space.
    """
    return np.linalg.solve(moving_affine, fixed_affine)[:-1]


def whole_displacement(displacement: jax.Array, matrix: np.ndarray, voxel_to_voxel: np.ndarray) -> jax.Array:
    """`d` `[*S, N]`, of the deformation `displacement` `[*S, N]` and what follows it, `matrix` `[N, N + 1]`."""
    extra = np.linalg.solve(_square(voxel_to_voxel), _square(matrix)) - np.eye(
        len(matrix) + 1
    )  # close to 0, and so exact
    points = identity_grid(displacement.shape[:-1]) + displacement
    return displacement + _apply(extra[:-1], points)


def whole_inverse(
    displacement: jax.Array, matrix: np.ndarray, voxel_to_voxel: np.ndarray, moving_shape: tuple[int, ...]
) -> jax.Array:
    """The inverse of the whole map: a displacement `[*V, N]` of the moving grid, in its voxels.

    It leads from a point of the moving image to the physical place of the fixed image that shows the same.

    Args:
      displacement: `u` `[*S, N]`.
      matrix, voxel_to_voxel: `[N, N + 1]`, see above.
      moving_shape: `V`.
    """
    # voxel_to_voxel(back(y) + shift) - y, with the small difference computed first.
    extra = (_square(voxel_to_voxel) @ np.linalg.inv(_square(matrix)) - np.eye(len(matrix) + 1))[:-1]
    linear = np.concatenate([voxel_to_voxel[:, :-1], np.zeros((len(voxel_to_voxel), 1))], axis=1)
    back = np.linalg.inv(_square(matrix))[:-1]
    return _whole_inverse(displacement, *(jnp.asarray(m, jnp.float32) for m in (back, linear, extra)), moving_shape)


def compile_inverse(shape: tuple[int, ...], moving_shape: tuple[int, ...]) -> None:
    """Compiles what `whole_inverse` runs for these grids, into JAX's persistent cache; for another thread."""
    num_axes = len(shape)
    matrix = jax.ShapeDtypeStruct((num_axes, num_axes + 1), jnp.float32)
    displacement = jax.ShapeDtypeStruct((*shape, num_axes), jnp.float32)
    _whole_inverse.lower(displacement, matrix, matrix, matrix, moving_shape).compile()


@partial(jax.jit, static_argnames="moving_shape")
def _whole_inverse(displacement, back, linear, extra, moving_shape):
    undone, _ = inverse(displacement[None])
    grid = identity_grid(moving_shape)
    shift = sample(undone, _apply(back, grid)[None], mode="nearest")[0]
    return _apply(linear, shift) + _apply(extra, grid)


def sample_moving(moving: np.ndarray, displacement: jax.Array, voxel_to_voxel: np.ndarray, order: int = 1) -> jax.Array:
    """The moving image `[*V]` or `[*V, C]` where the whole `displacement` `[*S, N]` points: `moving(voxel_to_voxel(p + d))`."""
    return _sample_moving(jnp.asarray(moving), displacement, jnp.asarray(voxel_to_voxel, jnp.float32), order)


@partial(jax.jit, static_argnames="order")
def _sample_moving(moving, displacement, voxel_to_voxel, order):
    coordinates = _apply(voxel_to_voxel, identity_grid(displacement.shape[:-1]) + displacement)
    return sample(moving[None], coordinates[None], order=order)[0]


@jax.jit
def jacobian_map(displacement: jax.Array) -> jax.Array:
    """Determinant of `id + d` at every voxel `[*S]`, central differences; at the border, that of the next voxel."""
    interior = jacobian_determinant(displacement[None])[0]
    return jnp.pad(interior, 1, mode="edge")


def _apply(matrix: np.ndarray, points: jax.Array) -> jax.Array:
    return apply_affine(jnp.asarray(matrix, jnp.float32)[None], points[None])[0]


def _square(matrix: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(matrix, np.float64), np.eye(len(matrix) + 1)[-1:]])
