"""Mutual information: statistical dependence of two images' intensities, whatever the relation between them."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from air_jax.checks import check_integer, is_integer, require
from air_jax.losses.windows import SMALLEST_WEIGHT, at_least_float32, seen, voxel_weights
from air_jax.runtime.any_mesh import on_any_mesh, zeros_for
from air_jax.transforms.shapes import check_images

# Voxels counted at once. Larger chunks are no faster, and each chunk takes `2 * bins` numbers a voxel.
_CHUNK = 2**14
MOST_BINS = 1024  # whose joint histogram has a million entries


@on_any_mesh
def mi_loss(fixed: jax.Array, warped: jax.Array, *, bins: int = 32, weights: jax.Array | None = None) -> jax.Array:
    """Negative mutual information in nats, by Parzen windows (Viola & Wells 1997; Mattes et al. 2003).

    A voxel counts in the four bins around its intensity, with the weights of a cubic B-spline. Mattes et al. use this
    window in one image; here both images have it, so the loss has derivatives with respect to both.

    With weights `w` the joint histogram is weighted: the share of the bins `(i, j)` is
    `sum(w b_i(fixed) b_j(warped)) / sum(w)` over voxels, with the windows `b`.

    Args:
      fixed: `[B, *S, C]` in [0, 1]. Values far outside this range count as one bin outside of it.
      warped: the same shape.
      bins: number of bins of each image, from 6 to 1024; 32 by default. Two are below 0 and two above 1, for the tails
        of the windows.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]`: the mean over channels, from `-log(bins)` to 0. 0: unrelated, or one image is constant.

    Raises:
      ValueError: the shapes do not fit each other.
      OptionError: fewer than 6 bins, or more than 1024.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> round(float(air_jax.losses.mi_loss(fixed, 1 - fixed)[0]), 2)  # shares of 1/4 and 3/4
      -0.56
    """
    return -_of_channels("mi_loss", _mutual_information, fixed, warped, bins, weights)


@on_any_mesh
def nmi_loss(fixed: jax.Array, warped: jax.Array, *, bins: int = 32, weights: jax.Array | None = None) -> jax.Array:
    """Negative mutual information, divided by the joint entropy (Studholme et al. 1999, An overlap invariant entropy
    measure of 3D medical image alignment: their measure minus 1).

    Mutual information grows with the number of tissues that the compared region contains. So it rewards an affine that
    brings more background into the region. The quotient does not.

    Args:
      fixed: `[B, *S, C]` in [0, 1], as for `mi_loss`.
      warped: the same shape.
      bins: number of bins of each image, from 6 to 1024; 32 by default.
      weights: `[B, *S]` in [0, 1], as for `mi_loss`.

    Returns:
      `[B]`: the mean over channels, in [-1, 0]. 0: unrelated, or one image is constant.

    Raises:
      ValueError: the shapes do not fit each other.
      OptionError: fewer than 6 bins, or more than 1024.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> round(float(air_jax.losses.nmi_loss(fixed, 1 - fixed)[0]), 2)
      -0.24
      >>> round(float(air_jax.losses.nmi_loss(fixed, jnp.roll(fixed, 1, axis=1))[0]), 2)
      -0.08
    """
    return -_of_channels("nmi_loss", _normalized_mutual_information, fixed, warped, bins, weights)


def _of_channels(
    function: str,
    measure: Callable[..., jax.Array],
    fixed: jax.Array,
    warped: jax.Array,
    bins: int,
    weights: jax.Array | None,
) -> jax.Array:
    """Checks the arguments of a loss; the mean of a measure over channels, `[B]`."""
    check_images(function, fixed, warped)
    require(is_integer(bins) and bins >= 6, "bins", bins, "must be at least 6, of which 4 are outside of [0, 1]")
    check_integer("bins", bins, 6, MOST_BINS)
    weights = voxel_weights(function, fixed, weights)
    of_channel = functools.partial(measure, bins=bins)
    channels = _by_channel(seen(fixed, weights)), _by_channel(seen(warped, weights))
    if weights is None:
        return jnp.mean(jax.vmap(jax.vmap(of_channel))(*channels), axis=1)
    of_pair = jax.vmap(of_channel, in_axes=(0, 0, None))
    return jnp.mean(jax.vmap(of_pair)(*channels, weights.reshape(weights.shape[0], -1)), axis=1)


def _by_channel(image: jax.Array) -> jax.Array:
    """`[B, *S, C]` to `[B, C, voxels]`."""
    image = at_least_float32(image)
    return jnp.moveaxis(image.reshape(image.shape[0], -1, image.shape[-1]), -1, 1)


def _mutual_information(
    fixed: jax.Array, warped: jax.Array, weights: jax.Array | None = None, *, bins: int
) -> jax.Array:
    """Mutual information of two lists of intensities `[voxels]`, with weights `[voxels]`; a scalar."""
    fixed_entropy, warped_entropy, joint_entropy = _entropies(fixed, warped, weights, bins)
    return fixed_entropy + warped_entropy - joint_entropy


def _normalized_mutual_information(
    fixed: jax.Array, warped: jax.Array, weights: jax.Array | None = None, *, bins: int
) -> jax.Array:
    """Mutual information divided by the joint entropy."""
    fixed_entropy, warped_entropy, joint_entropy = _entropies(fixed, warped, weights, bins)
    return (fixed_entropy + warped_entropy - joint_entropy) / jnp.maximum(joint_entropy, SMALLEST_WEIGHT)


def _entropies(fixed: jax.Array, warped: jax.Array, weights: jax.Array | None, bins: int) -> tuple[jax.Array, ...]:
    """Entropies of the fixed image, of the warped image, and of both together."""
    joint = _joint_histogram(fixed, warped, weights, bins)
    return _entropy(joint.sum(1)), _entropy(joint.sum(0)), _entropy(joint)


def _joint_histogram(fixed: jax.Array, warped: jax.Array, weights: jax.Array | None, bins: int) -> jax.Array:
    """Relative frequencies of pairs of bins, `[bins, bins]`."""
    num_chunks = math.ceil(fixed.size / _CHUNK)
    size = math.ceil(fixed.size / num_chunks)
    # The padding of the last chunk is so far from the bins that it counts in none.
    padding = (0, num_chunks * size - fixed.size)
    chunks = tuple(
        jnp.pad(_positions(image, bins), padding, constant_values=-bins).reshape(num_chunks, size)
        for image in (fixed, warped)
    )

    if weights is not None:
        chunks += (jnp.pad(weights, padding).reshape(num_chunks, size),)

    # The derivative computes the weights again: those of all voxels would take `2 * bins` times the images' memory.
    @jax.checkpoint
    def add(joint, chunk):
        fixed_weights, warped_weights = (_bin_weights(position, bins) for position in chunk[:2])
        if weights is not None:
            fixed_weights *= chunk[2][None]
        return joint + jnp.matmul(fixed_weights, warped_weights.T, precision=lax.Precision.HIGHEST), None

    joint, _ = lax.scan(add, zeros_for((bins, bins), *chunks), chunks)
    return joint / (fixed.size if weights is None else jnp.maximum(jnp.sum(weights), SMALLEST_WEIGHT))


def _positions(image: jax.Array, bins: int) -> jax.Array:
    """Positions of intensities in units of bins."""
    # The clip is one bin outside of [0, 1]: 0 and 1 are common values, and the derivative at the clip is halved.
    return jnp.clip(2 + (bins - 5) * image, 1, bins - 2)


def _bin_weights(position: jax.Array, bins: int) -> jax.Array:
    """Weights `[bins, voxels]` of positions `[voxels]`: the cubic B-spline of the distance. A voxel's sum is 1."""
    distance = jnp.abs(position[None, :] - jnp.arange(bins, dtype=position.dtype)[:, None])
    return (jax.nn.relu(2 - distance) ** 3 - 4 * jax.nn.relu(1 - distance) ** 3) / 6


def _entropy(shares: jax.Array) -> jax.Array:
    """Entropy in nats. Empty bins add nothing to the value or to the derivative."""
    return -jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares, 1)))
