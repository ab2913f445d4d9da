"""Mutual information: how much of one image's intensities the other one's tell, whatever the relation between them."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from air_jax.losses.windows import at_least_float32

# Voxels counted at once. Larger is no faster, and each takes `2 * bins` numbers.
_CHUNK = 2**14


def mi(fixed: jax.Array, warped: jax.Array, *, bins: int = 32) -> jax.Array:
    """Negative mutual information in nats, by Parzen windows (Viola & Wells 1997; Mattes et al. 2003).

    A voxel counts in the four bins around its intensity, with the weights of a cubic B-spline. Mattes et al. do so in
    one image; here it is both, so that there are derivatives with respect to both.

    Args:
      fixed, warped: `[B, *S, C]` in [0, 1]; values far outside count as those one bin outside.
      bins: of either image, two of them below 0 and two above 1, for the windows' tails.

    Returns:
      `[B]`: the mean over channels, from `-log(bins)` to 0 (unrelated, or one is constant).

    Raises:
      ValueError: fewer than 6 bins.
    """
    if bins < 6:
        raise ValueError(f"bins is {bins}; there must be at least 6, of which 4 are outside of [0, 1]")
    of_channel = functools.partial(_mutual_information, bins=bins)
    return -jnp.mean(jax.vmap(jax.vmap(of_channel))(_by_channel(fixed), _by_channel(warped)), axis=1)


def _by_channel(image: jax.Array) -> jax.Array:
    """`[B, *S, C]` to `[B, C, voxels]`."""
    image = at_least_float32(image)
    return jnp.moveaxis(image.reshape(image.shape[0], -1, image.shape[-1]), -1, 1)


def _mutual_information(fixed: jax.Array, warped: jax.Array, bins: int) -> jax.Array:
    """Of two lists of intensities, `[voxels]`."""
    joint = _joint_histogram(fixed, warped, bins)
    entropies = [_entropy(joint.sum(1)), _entropy(joint.sum(0)), _entropy(joint)]
    return entropies[0] + entropies[1] - entropies[2]


def _joint_histogram(fixed: jax.Array, warped: jax.Array, bins: int) -> jax.Array:
    """Shares of the pairs of bins, `[bins, bins]`."""
    num_chunks = math.ceil(fixed.size / _CHUNK)
    size = math.ceil(fixed.size / num_chunks)
    # What fills up the last chunk lies so far from the bins that it counts in none.
    padding = (0, num_chunks * size - fixed.size)
    chunks = tuple(
        jnp.pad(_positions(image, bins), padding, constant_values=-bins).reshape(num_chunks, size)
        for image in (fixed, warped)
    )

    # Weights are computed again for the derivative: all voxels' would take `2 * bins` times the memory of the images.
    @jax.checkpoint
    def add(joint, chunk):
        fixed_weights, warped_weights = (_bin_weights(position, bins) for position in chunk)
        return joint + jnp.matmul(fixed_weights, warped_weights.T, precision=lax.Precision.HIGHEST), None

    joint, _ = lax.scan(add, jnp.zeros((bins, bins), fixed.dtype), chunks)
    return joint / fixed.size


def _positions(image: jax.Array, bins: int) -> jax.Array:
    """Where intensities lie among the bins, in bins."""
    # Cut off a bin outside of [0, 1] only, because 0 and 1 are common and the derivative at the cut is halved.
    return jnp.clip(2 + (bins - 5) * image, 1, bins - 2)


def _bin_weights(position: jax.Array, bins: int) -> jax.Array:
    """Cubic B-spline of the distances from positions `[voxels]` to each bin, `[bins, voxels]`; a voxel's sum to 1."""
    distance = jnp.abs(position[None, :] - jnp.arange(bins, dtype=position.dtype)[:, None])
    return (jax.nn.relu(2 - distance) ** 3 - 4 * jax.nn.relu(1 - distance) ** 3) / 6


def _entropy(shares: jax.Array) -> jax.Array:
    """In nats. Empty bins add nothing, neither to the value nor to the derivative."""
    return -jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares, 1)))
