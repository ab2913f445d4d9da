"""What of a pair counts: weights of voxels, and the share of the fixed image that the moving image covers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import NOT_VALUES, check_finite, require
from air_jax.losses import Objective
from air_jax.losses.windows import check_weights
from air_jax.optimize.geometry import Geometry, check_geometry
from air_jax.optimize.levels import warp_between
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import shrink, smooth
from air_jax.transforms.shapes import check_displacement, check_field, check_fields

FILL_SIGMA = 3.0  # voxels
_SMALLEST = 1e-6  # avoids a division by 0


class Images(NamedTuple):
    """A pair of images and what counts of them.

    Attributes:
      fixed: `[B, *S, C]`.
      moving: `[B, *V, C]`.
      weights: `[B, *S]` in [0, 1] of the fixed image, or None: all of it counts.
      moving_weights: `[B, *V]` of the moving image, or None: all of it counts, and its surround also.
    """

    fixed: jax.Array
    moving: jax.Array
    weights: jax.Array | None = None
    moving_weights: jax.Array | None = None


def check_objective(objective: Any) -> None:
    """Raises `OptionError` unless an objective is a function that is also a pytree, as an `Objective` is."""
    known = callable(objective) and not jax.tree_util.treedef_is_leaf(jax.tree.structure(objective))
    require(known, "objective", objective, "must be an objective, see air_jax.losses.make_objective")


def check_images(function: str, images: Images, matrix: jax.Array | None = None) -> None:
    """Checks two images, their weights and the affine between them, as far as they have values.

    Args:
      function: name of the calling function, for the message.
      images: `[B, *S, C]` and `[B, *V, C]` with as many axes, their weights `[B, *S]` and `[B, *V]`, or None.
      matrix: `[B, N, N + 1]`, or None.

    Raises:
      TypeError: an image is no array.
      ValueError: shapes that do not fit each other, or values that count and are NaN or infinite.
    """
    fixed, moving, weights, moving_weights = images
    check_fields(function, fixed=fixed, moving=moving)
    if (fixed.ndim, fixed.shape[0], fixed.shape[-1]) != (moving.ndim, moving.shape[0], moving.shape[-1]):
        raise ValueError(
            f"{function}: fixed has shape {fixed.shape} and moving {moving.shape}; axes, batch and channels must fit"
        )
    shape = (fixed.shape[0], fixed.ndim - 2, fixed.ndim - 1)
    if matrix is not None and matrix.shape != shape:
        raise ValueError(f"{function}: geometry.matrix has shape {matrix.shape}; for these images it must be {shape}")
    check_weights(function, fixed, weights)
    check_weights(function, moving, moving_weights, name="moving_weights")
    check_finite(function, weights=weights, moving_weights=moving_weights, **{"geometry.matrix": matrix})
    for name, image, own in (("fixed", fixed, weights), ("moving", moving, moving_weights)):
        # Voxels of weight 0 may have any value.
        if own is not None and not any(isinstance(array, NOT_VALUES) for array in (image, own)):
            image = np.asarray(image)[np.asarray(own) > 0]
        if own is None or isinstance(image, np.ndarray):
            check_finite(function, **{name: image})


@on_any_mesh
def fill(image: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Replaces voxels of weight 0 by a smooth continuation of the others.

    Coarser grids and interpolation mix neighbouring voxels. So what does not count must not hold its own values.

    Args:
      image: `[B, *S, C]`; any values, also NaN, where the weight is 0.
      weights: `[B, *S]` in [0, 1], or None: all voxels count.

    Returns:
      `[B, *S, C]`: the image where the weight is above 0. Elsewhere the weighted Gaussian mean of the voxels around,
      and far from all of them the weighted mean of the image.

    Raises:
      ValueError: weights that do not fit the image, or are negative.

    Examples:
      >>> image = jnp.full((1, 8, 8, 1), 0.5).at[:, 4, 4].set(jnp.nan)
      >>> weights = jnp.ones((1, 8, 8)).at[:, 4, 4].set(0.0)
      >>> round(float(air_jax.optimize.fill(image, weights)[0, 4, 4, 0]), 3)
      0.5
    """
    check_field("fill", image, "image")
    check_weights("fill", image, weights)
    if weights is None:
        return image
    return _fill(image, weights)


@jax.jit
def _fill(image, weights):
    weights = weights[..., None]
    seen = weights > 0
    image = jnp.where(seen, image, 0)
    axes = tuple(range(1, image.ndim - 1))
    mean = jnp.sum(weights * image, axis=axes, keepdims=True) / jnp.maximum(
        jnp.sum(weights, axis=axes, keepdims=True), _SMALLEST
    )
    around = smooth(weights * image, FILL_SIGMA) + _SMALLEST * mean
    return jnp.where(seen, image, around / (smooth(weights, FILL_SIGMA) + _SMALLEST))


def filled(images: Images) -> Images:
    """Fills what does not count in both images, see `fill`."""
    fixed, moving, weights, moving_weights = images
    return Images(fill(fixed, weights), fill(moving, moving_weights), weights, moving_weights)


def shrink_images(images: Images, shape: Sequence[int], moving_shape: Sequence[int]) -> Images:
    """Averages both images and their weights onto coarser grids.

    Args:
      images: filled images.
      shape, moving_shape: sizes of the coarser grids.

    Returns:
      The smaller images.
    """
    fixed, moving, weights, moving_weights = images
    return Images(
        shrink(fixed, shape),
        shrink(moving, moving_shape),
        _shrink_weights(weights, shape),
        _shrink_weights(moving_weights, moving_shape),
    )


def _shrink_weights(weights: jax.Array | None, shape: Sequence[int]) -> jax.Array | None:
    """Averages weights, times the cube of the share of the average that counts at all.

    A coarse voxel that counts in part has another content than the same voxel of an image that counts wholly there.
    """
    if weights is None or weights.shape[1:] == tuple(shape):
        return weights
    both = shrink(jnp.stack([weights, (weights > 0).astype(weights.dtype)], axis=-1), shape)
    return both[..., 0] * both[..., 1] ** 3


def pair_weights(images: Images, displacement: jax.Array, matrix: jax.Array | None) -> jax.Array | None:
    """Weights of a pair on the fixed grid: the fixed image's times the moving image's, sampled like the image.

    Outside of the moving image the weight is 0, reached over one voxel.

    Args:
      images: the pair.
      displacement: `[B, *S, N]`, in voxels of the fixed grid.
      matrix: `[B, N, N + 1]` from fixed to moving voxels, or None: the identity.

    Returns:
      `[B, *S]` in [0, 1], or None.
    """
    if images.moving_weights is None:
        return images.weights
    warped = warp_between(images.moving_weights[..., None], displacement, matrix, mode="constant")[..., 0]
    return warped if images.weights is None else images.weights * warped


@on_any_mesh
def objective_value(
    objective: Objective,
    fixed: jax.Array,
    moving: jax.Array,
    displacement: jax.Array,
    *,
    geometry: Geometry = Geometry(),
    weights: jax.Array | None = None,
) -> jax.Array:
    """Computes the objective of displacements on the fixed grid.

    Args:
      objective: see `air_jax.losses.make_objective`.
      fixed: `[B, *S, C]` in [0, 1].
      moving: `[B, *S, C]`, or `[B, *V, C]` with `geometry.matrix`.
      displacement: `[B, *S, N]` in voxels of the fixed grid.
      geometry: affine that follows the displacement.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]`.

    Raises:
      OptionError: an objective or a geometry that is none.
      TypeError, ValueError: an argument is no array, or shapes do not fit.

    Examples:
      >>> fixed, still = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0), jnp.zeros((1, 8, 8, 2))
      >>> moving, objective = jnp.roll(fixed, 1, axis=1), air_jax.losses.make_objective("mse")
      >>> air_jax.optimize.objective_value(objective, fixed, moving, still).tolist()
      [0.125]
    """
    check_objective(objective)
    check_fields("objective_value", fixed=fixed, moving=moving)
    check_displacement("objective_value", displacement)
    check_geometry("objective_value", geometry)
    check_weights("objective_value", fixed, weights)
    return _value(objective, fixed, moving, displacement, geometry.matrix, weights)


@jax.jit
def _value(objective, fixed, moving, displacement, matrix, weights):
    warped = warp_between(moving, displacement, matrix)
    return objective(fixed, warped, displacement, weights=weights)[0]
