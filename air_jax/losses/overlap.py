"""Overlap of segmentations as a loss, where labels are there for training (none are needed for registering).

Integer labels have no derivative, so the moving ones are warped as an image with a channel for each label:

    soft_dice(one_hot(fixed_labels, values), warp(one_hot(moving_labels, values), displacement))
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.losses.windows import at_least_float32


def one_hot(labels: jax.Array, values: Sequence[int]) -> jax.Array:
    """A channel for each label: 1 where the segmentation has it, else 0.

    Args:
      labels: `[B, *S]` integer.
      values: the `L` labels that get a channel, usually without the background.

    Returns:
      `[B, *S, L]` float32, in the order of `values`; 0 in every channel where a voxel has none of them.

    Raises:
      ValueError: `labels` are not integers, or there are no `values`.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"one_hot: labels are {labels.dtype}; they must be integers")
    if not len(values):
        raise ValueError("one_hot: values is empty; it must name at least one label")
    channels = jnp.asarray(values).reshape((1,) * labels.ndim + (-1,))
    return (labels[..., None] == channels).astype(jnp.float32)


def soft_dice(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """1 minus the mean Dice overlap of all labels, for segmentations that may be soft (Balakrishnan et al. 2019,
    VoxelMorph, "Auxiliary Data Loss Function").

    A label's Dice is `2 sum(f w) / (sum f + sum w)`: plain sums below, not those of squares (V-Net, Milletari et al.
    2016). Equal segmentations score 1 where they are one-hot alone: a half-covered voxel overlaps itself by a half.

    Args:
      fixed, warped: `[B, *S, L]` in [0, 1], a channel for each label; leave out the background, see `one_hot`.

    Returns:
      `[B]` from 0 (equal) to 1 (disjoint). A label that one side of a pair lacks scores 0, one that both lack is left
      out of that pair's mean; a pair without any labels has loss 0. The derivative is finite for all of them.

    Raises:
      ValueError: the shapes differ.
    """
    _check("soft_dice", fixed, warped)
    fixed, warped = at_least_float32(fixed), at_least_float32(warped)
    axes = tuple(range(1, fixed.ndim - 1))
    overlap = jnp.sum(fixed * warped, axis=axes)
    total = jnp.sum(fixed, axis=axes) + jnp.sum(warped, axis=axes)
    present = total > 0
    lacking = jnp.where(present, 1 - 2 * overlap / jnp.where(present, total, 1), 0)
    return jnp.sum(lacking, axis=-1) / jnp.maximum(jnp.sum(present, axis=-1), 1)


def pooled_dice(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """`soft_dice` of all labels together: overlaps and sizes are summed over labels first, as in the generalised Dice
    (Crum et al. 2006) with equal weights.

    Every voxel counts alike, whichever its label. In the mean over labels, a voxel of a label of 40 has a thousand
    times the derivative of one of a label of 40,000, and an optimiser whose longest step is bounded moves little else.

    Args:
      fixed, warped: as for `soft_dice`.

    Returns:
      `[B]` from 0 (equal) to 1 (disjoint); 0 for a pair without any labels.

    Raises:
      ValueError: the shapes differ.
    """
    _check("pooled_dice", fixed, warped)
    return soft_dice(*(values.reshape(len(values), -1, 1) for values in (fixed, warped)))


def segmentation(logits: jax.Array, labels: jax.Array, values: Sequence[int]) -> jax.Array:
    """How far a predicted segmentation is from the known one: cross-entropy plus `soft_dice` of the probabilities
    (Isensee et al. 2021, nnU-Net, "Training scheme").

    Args:
      logits: `[B, *S, 1 + L]`, those of the background first.
      labels: `[B, *S]` integer.
      values: the `L` labels, in the order of the logits; whatever has none of them is background.

    Returns:
      `[B]`, 0 for perfect ones.

    Raises:
      ValueError: as many logits as labels and background are not given.
    """
    if logits.shape[-1] != 1 + len(values):
        raise ValueError(f"segmentation: logits of {logits.shape[-1]} classes for {len(values)} labels and background")
    known = one_hot(labels, values)
    background = 1 - jnp.sum(known, axis=-1, keepdims=True)
    log_probabilities = jax.nn.log_softmax(at_least_float32(logits))
    entropy = -jnp.sum(jnp.concatenate([background, known], axis=-1) * log_probabilities, axis=-1)
    overlap = soft_dice(known, jnp.exp(log_probabilities)[..., 1:])
    return jnp.mean(entropy, axis=tuple(range(1, labels.ndim))) + overlap


def _check(name: str, fixed: jax.Array, warped: jax.Array) -> None:
    if fixed.shape != warped.shape or fixed.ndim < 3:
        raise ValueError(
            f"{name}: fixed has shape {fixed.shape} and warped {warped.shape}; they must be the same, [B, *S, L]"
        )
