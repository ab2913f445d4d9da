"""Starts of an affine registration: a few translations, each with all rotations, and the choice between them."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.optimize.affine_parameters import Parameters, frame, to_matrix
from air_jax.optimize.visibility import Images
from air_jax.runtime.any_mesh import zeros_for
from air_jax.transforms import apply_affine, identity_grid, invert_affine

STARTS = 3  # translations for each rotation
# Turns of a picture, in degrees: slides are laid down by hand.
ANGLES = (0.0, -20.0, 20.0, -45.0, 45.0, -67.5, 67.5, -90.0, 90.0, -112.5, 112.5, -135.0, 135.0, -157.5, 157.5, 180.0)
# A start that is not preferred must have a loss that is lower by this share of the preferred one's size, and by the
# second number: a perfect fit has a loss near 0. By normalised mutual information, the right turn of a brain or a
# hippocampus is ahead of any other by 17 % at least (28 pairs, turns by quarters).
TURN_MARGIN, LEAST_TURN_MARGIN = 0.1, 1e-3

Rotations = tuple[tuple[float, ...], ...]  # the `N (N - 1) / 2` parameters of each


@functools.cache
def turns(num_axes: int) -> Rotations:
    """Returns the rotations that an affine may start from; the first is the identity.

    Args:
      num_axes: N. 2: 16 angles, any other is at most 12.5 degrees from one of them. 3: the 60 rotations that map an
        icosahedron to itself, any other is at most 44.5 degrees from one of them.
    """
    if num_axes == 2:
        return tuple((math.radians(angle),) for angle in ANGLES)
    from scipy.spatial.transform import Rotation  # here, because its import takes half a second of every start

    vectors = Rotation.create_group("I").as_rotvec()
    order = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")
    return tuple(map(tuple, vectors[order].tolist()))


def starts(images: Images, matrix: jax.Array, voxel_size: Sequence[float], rotations: Rotations) -> Parameters:
    """Returns the parameters of all starts.

    Args:
      images: the pairs.
      matrix: `[B, N, N + 1]` from fixed to moving voxels, the start without translation and rotation.
      voxel_size: lengths of the fixed voxels.
      rotations: about the centre of the fixed image.

    Returns:
      `[B * rotations * STARTS, ...]`; the starts of one rotation are consecutive: the matrix itself, with the middles
      of what counts aligned, and with the centres of mass aligned.
    """
    fixed, moving, weights, moving_weights = images
    shape, batch = fixed.shape[1:-1], fixed.shape[0]
    num_axes, count = len(shape), len(rotations)
    (_, size, half), back = frame(shape, voxel_size), invert_affine(matrix)
    rotation = jnp.asarray(rotations, jnp.float32)
    zeros = jnp.zeros((count, num_axes)), rotation, jnp.zeros((count, num_axes, num_axes))
    linear = to_matrix(Parameters(*zeros), shape, voxel_size, (1.0,) * num_axes)

    def onto(here, there):
        """Translations `[B, rotations, N]`: the turned fixed point `here` `[B, N]` meets the moving point `there`."""
        turned = jnp.sum(linear[None, :, :, :-1] * here[:, None, None], axis=-1) + linear[None, :, :, -1]
        return (apply_affine(back, there)[:, None] - turned) * size[None, None] / half

    translations = [
        jnp.zeros((batch, count, num_axes)),
        onto(_middle(fixed, weights), _middle(moving, moving_weights)),
        onto(_centre_of_mass(fixed, weights), _centre_of_mass(moving, moving_weights)),
    ]
    translation = jnp.stack(translations, axis=2).reshape(-1, num_axes)
    rotation = jnp.broadcast_to(rotation[None, :, None], (batch, count, STARTS, rotation.shape[-1]))
    rotation = rotation.reshape(-1, rotation.shape[-1]) + zeros_for((1, 1), translation)
    return Parameters(translation, rotation, zeros_for((translation.shape[0], num_axes, num_axes), translation))


def best_starts(parameters: Parameters, values: jax.Array, count: int, preferred: int) -> Parameters:
    """Keeps some starts of each pair.

    Args:
      parameters: `[B * starts, ...]`.
      values: `[B, starts]`, lower is better.
      count: of the starts to keep.
      preferred: number of the first starts, which are kept, in their order, whatever their values.

    Returns:
      `[B * count, ...]`.
    """
    values = jnp.where(jnp.arange(values.shape[1])[None] < preferred, -jnp.inf, values)
    return _pick(parameters, jnp.argsort(values, axis=1)[:, :count], values.shape[1])


def best_start(parameters: Parameters, values: jax.Array, preferred: int) -> Parameters:
    """Keeps the best start of each pair; one after the first `preferred` must be better by `TURN_MARGIN`.

    Args:
      parameters: `[B * starts, ...]`.
      values: `[B, starts]`, lower is better.
      preferred: number of the first starts that are preferred.

    Returns:
      `[B, ...]`.
    """
    if preferred:
        lowest = jnp.min(values[:, :preferred], axis=1, keepdims=True)
        later = jnp.arange(values.shape[1])[None] >= preferred
        margin = jnp.maximum(TURN_MARGIN * jnp.abs(lowest), LEAST_TURN_MARGIN)
        values = jnp.where(later, values + margin, values)
    return _pick(parameters, jnp.argmin(values, axis=1)[:, None], values.shape[1])


def _pick(parameters: Parameters, indices: jax.Array, count: int) -> Parameters:
    """Picks starts by their indices `[B, K]` of each pair's `count` starts."""
    indices = indices + count * jnp.arange(indices.shape[0])[:, None]
    return jax.tree.map(lambda array: array[indices.ravel()], parameters)


def _middle(image: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Middle `[B, N]`, in voxels, of the box around all voxels of an image `[B, *S, C]` that count."""
    shape = image.shape[1:-1]
    if weights is None:
        return jnp.broadcast_to((jnp.asarray(shape, jnp.float32) - 1) / 2, (image.shape[0], len(shape)))
    middles, axes = [], range(1, weights.ndim)
    for axis, size in zip(axes, shape, strict=True):
        counts = jnp.any(weights > 0, axis=tuple(other for other in axes if other != axis))
        first, last = jnp.argmax(counts, axis=1), size - 1 - jnp.argmax(counts[:, ::-1], axis=1)
        middles.append((first + last).astype(jnp.float32) / 2)
    return jnp.stack(middles, axis=1)


def _centre_of_mass(image: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Centre of mass `[B, N]` in voxels of images `[B, *S, C]` with weights `[B, *S]`. The mass is the distance of the
    intensity from the mean of the border, so that the background may be black or white.
    """
    axes = tuple(range(1, image.ndim - 1))
    border = [jnp.mean(jnp.take(image, jnp.asarray([0, -1]), axis=axis), axis=axes, keepdims=True) for axis in axes]
    mass = jnp.sum(jnp.abs(image - sum(border) / len(border)), axis=-1, keepdims=True)
    mass = mass if weights is None else mass * weights[..., None]
    grid = identity_grid(image.shape[1:-1])[None]
    return jnp.sum(mass * grid, axis=axes) / jnp.maximum(jnp.sum(mass, axis=axes), 1e-6)
