"""Displacements and images between the grids of two files.

Three maps occur, all from points of the fixed grid, in voxels:

- `voxel_to_voxel`: affine `[N, N + 1]` to the moving voxel at the same physical place, given by the two files' headers.
- `matrix`: affine `[N, N + 1]` to moving voxels, the result of affine registration.
- `u`: displacement `[*S, N]` of the deformation, which `matrix` follows.

Together they are one displacement `d` of the fixed grid, in its voxels: `voxel_to_voxel(p + d(p)) = matrix(p + u(p))`.
So the moving image is interpolated only once, and `d` is the field that ITK applies.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import check_integers
from air_jax.transforms.affine import apply_affine
from air_jax.transforms.grid import identity_grid
from air_jax.transforms.inversion import inverse
from air_jax.transforms.jacobian import jacobian_determinant
from air_jax.transforms.sampling.sampler import sample

INVERSE_TOLERANCE = 1e-3  # voxels


def voxel_matrix(fixed_affine: np.ndarray, moving_affine: np.ndarray) -> np.ndarray:
    """Returns the affine from fixed voxels to the moving voxels at the same physical place.

    Args:
      fixed_affine, moving_affine: `[N+1, N+1]`, array indices to physical space.

    Returns:
      `[N, N + 1]` float64: `voxel_to_voxel` of the other functions.
    """
    return np.linalg.solve(moving_affine, fixed_affine)[:-1]


def whole_displacement(displacement: jax.Array, matrix: np.ndarray, voxel_to_voxel: np.ndarray) -> jax.Array:
    """Combines deformation, affine and headers into one displacement of the fixed grid.

    Args:
      displacement: `u`, `[*S, N]`, voxels of the fixed grid.
      matrix: `[N, N + 1]`, fixed to moving voxels, applied after `u`.
      voxel_to_voxel: `[N, N + 1]`, see `voxel_matrix`.

    Returns:
      `d`, `[*S, N]` float32, voxels of the fixed grid. It is `u` to the last bit where the two matrices are equal.
    """
    # The difference from the identity is small; computed in float64, it stays exact.
    difference = np.linalg.solve(homogeneous(voxel_to_voxel), homogeneous(matrix)) - np.eye(len(matrix) + 1)
    points = identity_grid(displacement.shape[:-1]) + displacement
    return displacement + _apply(difference[:-1], points)


def whole_inverse(
    displacement: jax.Array, matrix: np.ndarray, voxel_to_voxel: np.ndarray, moving_shape: Sequence[int]
) -> jax.Array:
    """Inverts the map of `whole_displacement`: a displacement of the moving grid.

    It leads from a point of the moving image to the physical place where the fixed image shows the same structure.

    Args:
      displacement: `u`, `[*S, N]`, voxels of the fixed grid.
      matrix, voxel_to_voxel: `[N, N + 1]`, as in `whole_displacement`.
      moving_shape: `V`, sizes of the moving grid.

    Returns:
      `[*V, N]` float32, voxels of the moving grid.
    """
    back = np.linalg.inv(homogeneous(matrix))
    # The result is voxel_to_voxel(back(y) + shift) - y. The small difference of the affine part is computed in float64.
    difference = homogeneous(voxel_to_voxel) @ back - np.eye(len(matrix) + 1)
    linear = np.concatenate([voxel_to_voxel[:, :-1], np.zeros((len(voxel_to_voxel), 1))], axis=1)
    back, linear, difference = (jnp.asarray(m, jnp.float32) for m in (back[:-1], linear, difference[:-1]))
    return _whole_inverse(displacement, back, linear, difference, tuple(moving_shape))


def compile_inverse(shape: Sequence[int], moving_shape: Sequence[int]) -> None:
    """Compiles the program of `whole_inverse` into JAX's persistent cache; may run in another thread.

    Args:
      shape, moving_shape: `S` and `V`, sizes of the fixed and of the moving grid.
    """
    num_axes = len(shape)
    matrix = jax.ShapeDtypeStruct((num_axes, num_axes + 1), jnp.float32)
    displacement = jax.ShapeDtypeStruct((*shape, num_axes), jnp.float32)
    _whole_inverse.lower(displacement, matrix, matrix, matrix, tuple(moving_shape)).compile()


@partial(jax.jit, static_argnums=4)
def _whole_inverse(displacement, back, linear, difference, moving_shape):
    inverted, _ = inverse(displacement[None], tolerance=INVERSE_TOLERANCE)
    grid = identity_grid(moving_shape)
    shift = sample(inverted, _apply(back, grid)[None], mode="nearest")[0]
    return _apply(linear, shift) + _apply(difference, grid)


def sample_moving(
    moving: np.ndarray | jax.Array,
    displacement: np.ndarray | jax.Array,
    voxel_to_voxel: np.ndarray,
    *,
    order: int = 1,
) -> jax.Array:
    """Samples the moving image on the fixed grid: `moving(voxel_to_voxel(p + d(p)))`, 0 outside the moving image.

    Args:
      moving: `[*V]` or `[*V, C]`. For segmentations see `sample_segmentation`.
      displacement: `d`, `[*S, N]`, voxels of the fixed grid, see `whole_displacement`.
      voxel_to_voxel: `[N, N + 1]`, see `voxel_matrix`. Any other affine from fixed to moving voxels may take its place.
      order: 1 interpolates linearly, 0 takes the nearest voxel.

    Returns:
      `[*S]` or `[*S, C]`, in the dtype of `moving`.

    Raises:
      ValueError: the moving image has integers of 64 bits that JAX would cut off.
      OptionError: `order` is unknown.
    """
    check_integers("sample_moving", moving=moving)
    return _sample_moving(
        jnp.asarray(moving), jnp.asarray(displacement), jnp.asarray(voxel_to_voxel, jnp.float32), order
    )


@partial(jax.jit, static_argnums=3)
def _sample_moving(moving, displacement, voxel_to_voxel, order):
    coordinates = _apply(voxel_to_voxel, identity_grid(displacement.shape[:-1]) + displacement)
    return sample(moving[None], coordinates[None], order=order)[0]


def sample_segmentation(
    segmentation: np.ndarray, displacement: np.ndarray | jax.Array, voxel_to_voxel: np.ndarray
) -> np.ndarray:
    """Samples a moving segmentation on the fixed grid with nearest neighbour; label ids stay exact.

    Args:
      segmentation: `[*V]`, any integer type, up to 64 bits.
      displacement: `d`, `[*S, N]`, voxels of the fixed grid, see `whole_displacement`.
      voxel_to_voxel: `[N, N + 1]`, see `voxel_matrix`.

    Returns:
      `[*S]` in the type of `segmentation`; 0 outside the moving image.
    """
    ids, (ranks,) = label_ranks(segmentation)
    sampled = np.asarray(sample_moving(ranks, displacement, voxel_to_voxel, order=0))
    return np.array(ids, segmentation.dtype)[sampled]


def label_ranks(*segmentations: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """Numbers the label ids that occur in any of the segmentations. JAX holds ranks exactly, but not ids of 64 bits.

    Args:
      *segmentations: any shapes and integer types, up to 64 bits.

    Returns:
      The ids: 0, the background, then all others in ascending order. And for each segmentation the ranks, int32 of its
      shape: `ids[rank]` is the voxel's id.
    """
    found = [np.unique(segmentation) for segmentation in segmentations]
    # Python's integers: NumPy would turn a mixture of uint64 and signed types into floats.
    ids = [0, *sorted({label for own in found for label in own.tolist()} - {0})]
    rank_of = {label: rank for rank, label in enumerate(ids)}
    ranks = []
    for own, segmentation in zip(found, segmentations, strict=True):
        table = np.array([rank_of[label] for label in own.tolist()], np.int32)
        ranks.append(table[np.searchsorted(own, segmentation)])
    return ids, ranks


def jacobian_map(displacement: jax.Array) -> jax.Array:
    """Returns the Jacobian determinant of `id + d` at every voxel, by central differences.

    Args:
      displacement: `d`, `[*S, N]` in voxels, at least 3 voxels along each axis.

    Returns:
      `[*S]` float32. Voxels at the border have the value of their inner neighbour.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.
    """
    return _jacobian_map(displacement)


def homogeneous(matrices: np.ndarray) -> np.ndarray:
    """Returns affines `[..., N, N+1]` with their last row: `[..., N+1, N+1]` float64."""
    size = matrices.shape[-1]
    last = np.broadcast_to(np.eye(size)[-1:], (*matrices.shape[:-2], 1, size))
    return np.concatenate([np.asarray(matrices, np.float64), last], axis=-2)


@jax.jit
def _jacobian_map(displacement):
    interior = jacobian_determinant(displacement[None])[0]
    return jnp.pad(interior, 1, mode="edge")


def _apply(matrix: np.ndarray | jax.Array, points: jax.Array) -> jax.Array:
    return apply_affine(jnp.asarray(matrix, jnp.float32)[None], points[None])[0]
