"""Displacements between the grids of two files, from a deformation followed by an affine map.

The deformation `u` is a displacement of the fixed grid. `matrix`, from fixed to moving voxels, is applied after it. The
affines of the files give `voxel_to_voxel`, from fixed voxels to the moving voxels at the same physical place. The whole
map is one displacement `d` of the fixed grid, in its voxels: `voxel_to_voxel(p + d(p)) = matrix(p + u(p))`. So the
moving image is interpolated only once.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.transforms.affine import apply_affine
from air_jax.transforms.grid import identity_grid
from air_jax.transforms.inversion import inverse
from air_jax.transforms.jacobian import jacobian_determinant
from air_jax.transforms.sampling.sampler import check_integers, sample


def voxel_matrix(fixed_affine: np.ndarray, moving_affine: np.ndarray) -> np.ndarray:
    """Returns `voxel_to_voxel`, from the fixed image's voxels to the moving image's at the same physical place.

    Args:
      fixed_affine: `[N + 1, N + 1]`, from array indices of the fixed image to physical space in mm.
      moving_affine: the same of the moving image.

    Returns:
      `[N, N + 1]` float64.
    """
    return np.linalg.solve(moving_affine, fixed_affine)[:-1]


def whole_displacement(displacement: jax.Array, matrix: np.ndarray, voxel_to_voxel: np.ndarray) -> jax.Array:
    """Returns the whole map as one displacement of the fixed grid.

    Args:
      displacement: `u` `[*S, N]` in voxels of the fixed grid.
      matrix: `[N, N + 1]`, from fixed to moving voxels, applied after the displacement.
      voxel_to_voxel: `[N, N + 1]`, see `voxel_matrix`.

    Returns:
      `d` `[*S, N]` in voxels of the fixed grid. It is `u` to the last bit if both matrices are the same.
    """
    identity = np.eye(len(matrix) + 1)
    extra = np.linalg.solve(_square(voxel_to_voxel), _square(matrix)) - identity  # close to 0, so exact in float32
    points = identity_grid(displacement.shape[:-1]) + displacement
    return displacement + _apply(extra[:-1], points)


def whole_inverse(
    displacement: jax.Array, matrix: np.ndarray, voxel_to_voxel: np.ndarray, moving_shape: tuple[int, ...]
) -> jax.Array:
    """Returns the inverse of the whole map as one displacement of the moving grid.

    It points from a voxel of the moving image to the physical place of the corresponding point of the fixed image.

    Args:
      displacement: `u` `[*S, N]` in voxels of the fixed grid.
      matrix: `[N, N + 1]`, from fixed to moving voxels, applied after the displacement.
      voxel_to_voxel: `[N, N + 1]`, see `voxel_matrix`.
      moving_shape: spatial shape `V` of the moving image.

    Returns:
      `[*V, N]` in voxels of the moving grid.
    """
    # voxel_to_voxel(back(y) + shift) - y, with the small difference computed first, in float64.
    extra = (_square(voxel_to_voxel) @ np.linalg.inv(_square(matrix)) - np.eye(len(matrix) + 1))[:-1]
    linear = np.concatenate([voxel_to_voxel[:, :-1], np.zeros((len(voxel_to_voxel), 1))], axis=1)
    back = np.linalg.inv(_square(matrix))[:-1]
    return _whole_inverse(displacement, *(jnp.asarray(m, jnp.float32) for m in (back, linear, extra)), moving_shape)


def compile_inverse(shape: tuple[int, ...], moving_shape: tuple[int, ...]) -> None:
    """Compiles the program of `whole_inverse` into JAX's persistent cache. Another thread can call it.

    Args:
      shape: spatial shape of the fixed grid.
      moving_shape: spatial shape of the moving grid.
    """
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


def sample_moving(
    moving: np.ndarray | jax.Array, displacement: jax.Array, voxel_to_voxel: np.ndarray | jax.Array, *, order: int = 1
) -> jax.Array:
    """Samples the moving image with the whole displacement: `warped(p) = moving(voxel_to_voxel(p + d(p)))`.

    Args:
      moving: `[*V]` or `[*V, C]`, any dtype.
      displacement: `d` `[*S, N]` in voxels of the fixed grid, see `whole_displacement`.
      voxel_to_voxel: `[N, N + 1]`, see `voxel_matrix`.
      order: 1 (default) interpolates linearly, 0 takes the nearest voxel; see `air_jax.warp`.

    Returns:
      `[*S]` or `[*S, C]`, in the dtype of `moving`; 0 outside the moving image.

    Raises:
      ValueError: the moving image has 64-bit integers that JAX would cut off.
      OptionError: `order` is unknown.
    """
    check_integers("sample_moving", moving)
    return _sample_moving(jnp.asarray(moving), displacement, jnp.asarray(voxel_to_voxel, jnp.float32), order)


@partial(jax.jit, static_argnames="order")
def _sample_moving(moving, displacement, voxel_to_voxel, order):
    coordinates = _apply(voxel_to_voxel, identity_grid(displacement.shape[:-1]) + displacement)
    return sample(moving[None], coordinates[None], order=order)[0]


@jax.jit
def _jacobian_map(displacement):
    interior = jacobian_determinant(displacement[None])[0]
    return jnp.pad(interior, 1, mode="edge")


def jacobian_map(displacement: jax.Array) -> jax.Array:
    """Computes the Jacobian determinant of `id + d` at every voxel, by central differences.

    Args:
      displacement: `d` `[*S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[*S]`: the ratio of volumes. Voxels at the border have the value of the nearest interior voxel.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.
    """
    return _jacobian_map(displacement)


def _apply(matrix: np.ndarray | jax.Array, points: jax.Array) -> jax.Array:
    return apply_affine(jnp.asarray(matrix, jnp.float32)[None], points[None])[0]


def _square(matrix: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(matrix, np.float64), np.eye(len(matrix) + 1)[-1:]])
