"""Parameters of affine maps: which are free, and the matrix that they make."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Freedom(NamedTuple):
    """The parameters of an affine that are free, besides the translation."""

    rotation: bool
    scale: bool
    stretch: bool


AFFINES = {
    "translation": Freedom(False, False, False),
    "rigid": Freedom(True, False, False),
    "similarity": Freedom(True, True, False),
    "affine": Freedom(True, True, True),
}
"""Kinds of affine maps by their names, with the parts that are free.

Examples:
  >>> sorted(air_jax.optimize.AFFINES)
  ['affine', 'rigid', 'similarity', 'translation']
"""


class Parameters(NamedTuple):
    """Parameters of affines, `[B, ...]` each. The identity has zeros.

    Attributes:
      translation: `[B, N]`, in half the image's length.
      rotation: `[B, N (N - 1) / 2]`, in radians.
      stretch: `[B, N, N]`; its symmetric part plus the identity is the stretch.
    """

    translation: jax.Array
    rotation: jax.Array
    stretch: jax.Array


def free_gradient(gradient: Parameters, freedom: Freedom) -> Parameters:
    """Sets the gradient of the parameters that are not free to zero."""
    translation, rotation, stretch = gradient
    if not freedom.rotation:
        rotation = jnp.zeros_like(rotation)
    if not freedom.stretch:
        trace = jnp.trace(stretch, axis1=1, axis2=2) * freedom.scale
        stretch = trace[:, None, None] * jnp.eye(stretch.shape[-1])[None]
    return Parameters(translation, rotation, stretch)


def frame(shape: Sequence[int], voxel_size: Sequence[float]) -> tuple[jax.Array, jax.Array, float]:
    """Centre of the fixed image in voxels, its voxel size, and half of its longest side in the same unit."""
    size = jnp.asarray(voxel_size, jnp.float32)
    half = max(0.5 * number * length for number, length in zip(shape, voxel_size, strict=True))
    return (jnp.asarray(shape, jnp.float32) - 1) / 2, size, half


def to_matrix(
    parameters: Parameters, shape: Sequence[int], voxel_size: Sequence[float], free: Sequence[float]
) -> jax.Array:
    """Affine `[B, N, N + 1]` from fixed to fixed voxels: `centre + linear (p - centre) + translation`.

    Along axes where `free` is 0, points keep their coordinate: rotations are in the plane of the free axes.
    """
    centre, size, half = frame(shape, voxel_size)
    translation, rotation, stretch = parameters
    may_move, one = np.asarray(free, np.float32), jnp.eye(len(shape))[None]
    rows, columns = np.triu_indices(len(shape), 1)
    rotation, translation = rotation * (may_move[rows] * may_move[columns])[None], translation * may_move[None]
    symmetric = 0.5 * (stretch + jnp.swapaxes(stretch, 1, 2))
    linear = jnp.matmul(_rotation(rotation, len(shape)), one + symmetric)
    linear = one + may_move[None, :, None] * (linear - one)
    linear = linear * size[None, None] / size[None, :, None]  # from lengths to voxels
    offset = centre[None] + half * translation / size[None] - jnp.sum(linear * centre[None, None], axis=-1)
    return jnp.concatenate([linear, offset[..., None]], axis=-1)


def _rotation(rotation: jax.Array, num_axes: int) -> jax.Array:
    """Converts angles `[B, N (N - 1) / 2]` in radians to rotations `[B, N, N]` by Rodrigues' formula."""
    rows, columns = jnp.triu_indices(num_axes, 1)
    upper = jnp.zeros((rotation.shape[0], num_axes, num_axes)).at[:, rows, columns].set(rotation)
    skew = upper - jnp.swapaxes(upper, 1, 2)
    # The small number keeps the square root differentiable at zero, and the angle above it.
    angle = jnp.sqrt(jnp.sum(jnp.square(rotation), axis=-1) + 1e-12)[:, None, None]
    first, second = jnp.sin(angle) / angle, 0.5 * jnp.square(jnp.sin(0.5 * angle) / (0.5 * angle))
    return jnp.eye(num_axes)[None] + first * skew + second * jnp.matmul(skew, skew)
