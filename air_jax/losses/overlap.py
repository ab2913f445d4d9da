"""Overlap of segmentations as a loss, for training with segmentations. Registration needs none.

Integer segmentations have no derivative, so the moving one is warped as an image with a channel for each label id:

    dice_loss(one_hot(fixed, label_ids), warp(one_hot(moving, label_ids), displacement))
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_integers, check_label_ids
from air_jax.losses.windows import at_least_float32, seen, voxel_weights
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_images


@on_any_mesh
def one_hot(segmentation: jax.Array, label_ids: Sequence[int]) -> jax.Array:
    """Makes a channel for each label id: 1 where the segmentation has it, else 0.

    Args:
      segmentation: `[B, *S]` integer.
      label_ids: the `L` ids that get a channel, usually without the background.

    Returns:
      `[B, *S, L]` float32, in the order of `label_ids`; 0 in every channel where a voxel has none of them.

    Raises:
      ValueError: the segmentation is not of integers, or has integers beyond JAX's.
      OptionError: `label_ids` is empty, or has an id that is no integer, is there twice or is beyond JAX's integers.

    Examples:
      >>> segmentation = jnp.array([[0, 2, 5]])
      >>> air_jax.losses.one_hot(segmentation, (2, 5)).tolist()
      [[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]
    """
    check_arrays("one_hot", "iu", segmentation=segmentation)
    check_integers("one_hot", segmentation=segmentation)
    check_label_ids(label_ids, background=True)
    channels = jnp.asarray(label_ids).reshape((1,) * segmentation.ndim + (-1,))
    return (segmentation[..., None] == channels).astype(jnp.float32)


@on_any_mesh
def dice_loss(fixed: jax.Array, warped: jax.Array) -> jax.Array:
    """1 minus the mean Dice overlap of all channels, hard or soft (Balakrishnan et al. 2019, VoxelMorph, "Auxiliary
    Data Loss Function").

    The Dice overlap of a channel is `2 sum(f w) / (sum f + sum w)`. The denominator has plain sums, not sums of squares
    as in V-Net (Milletari et al. 2016). Equal segmentations have loss 0 only if they are one-hot: a voxel with value
    0.5 overlaps itself by half.

    Args:
      fixed: `[B, *S, L]` in [0, 1], a channel for each label id without the background, see `one_hot`.
      warped: the same shape.

    Returns:
      `[B]` from 0 (equal) to 1 (disjoint). A channel that is empty on one side has overlap 0. A channel that is empty
      on both sides is left out of that pair's mean. A pair with empty channels only has loss 0. The derivative is
      finite in all cases.

    Raises:
      ValueError: the shapes differ.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> round(float(air_jax.losses.dice_loss(fixed, jnp.roll(fixed, 1, axis=1))[0]), 3)
      0.25
    """
    check_images("dice_loss", fixed, warped)
    fixed, warped = at_least_float32(fixed), at_least_float32(warped)
    axes = tuple(range(1, fixed.ndim - 1))
    overlap = jnp.sum(fixed * warped, axis=axes)
    total = jnp.sum(fixed, axis=axes) + jnp.sum(warped, axis=axes)
    present = total > 0
    lacking = jnp.where(present, 1 - 2 * overlap / jnp.where(present, total, 1), 0)
    return jnp.sum(lacking, axis=-1) / jnp.maximum(jnp.sum(present, axis=-1), 1)


@on_any_mesh
def pooled_dice_loss(fixed: jax.Array, warped: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
    """`dice_loss` of all channels together: overlaps and sizes are summed over channels first, as in the generalised
    Dice (Crum et al. 2006) with equal weights.

    Every voxel counts alike, whatever its label id. In the mean over channels, a voxel of a structure of 40 voxels has
    a thousand times the derivative of a voxel of a structure of 40,000 voxels. An optimiser that bounds its longest
    step then moves only the small structures.

    With weights `w` all sums over voxels are weighted: `1 - 2 sum(w fixed warped) / sum(w (fixed + warped))`.

    Args:
      fixed: `[B, *S, L]` in [0, 1], as for `dice_loss`.
      warped: the same shape.
      weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

    Returns:
      `[B]` from 0 (equal) to 1 (disjoint); 0 for a pair with empty channels only.

    Raises:
      ValueError: the shapes do not fit each other.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> round(float(air_jax.losses.pooled_dice_loss(fixed, jnp.roll(fixed, 1, axis=1))[0]), 3)
      0.25
    """
    check_images("pooled_dice_loss", fixed, warped)
    weights = voxel_weights("pooled_dice_loss", fixed, weights)
    if weights is None:
        return dice_loss(*(values.reshape(values.shape[0], -1, 1) for values in (fixed, warped)))
    fixed, warped = (seen(at_least_float32(values), weights) for values in (fixed, warped))
    axes = tuple(range(1, fixed.ndim))
    overlap, total = jnp.sum(weights * fixed * warped, axis=axes), jnp.sum(weights * (fixed + warped), axis=axes)
    return jnp.where(total > 0, 1 - 2 * overlap / jnp.where(total > 0, total, 1), 0)


@on_any_mesh
def segmentation_loss(logits: jax.Array, segmentation: jax.Array, label_ids: Sequence[int]) -> jax.Array:
    """Loss of a predicted segmentation: cross-entropy plus `dice_loss` of the probabilities (Isensee et al. 2021,
    nnU-Net, "Training scheme").

    Args:
      logits: `[B, *S, 1 + L]`, the background's first.
      segmentation: `[B, *S]` integer, the true segmentation.
      label_ids: the `L` label ids, in the order of the logits. All other ids count as background.

    Returns:
      `[B]`, at least 0; 0 for a perfect prediction.

    Raises:
      ValueError: the shapes do not fit each other, or the number of logits is not `1 + L`.
      OptionError: the label ids are those that `one_hot` refuses.

    Examples:
      >>> segmentation = jnp.zeros((1, 8, 8), int).at[:, 2:6, 2:6].set(3)
      >>> logits = 20.0 * jnp.stack([segmentation == 0, segmentation == 3], axis=-1)
      >>> losses = [air_jax.losses.segmentation_loss(sign * logits, segmentation, (3,)) for sign in (1, -1)]
      >>> [round(abs(float(loss[0])), 3) for loss in losses]
      [0.0, 21.0]
    """
    check_arrays("segmentation_loss", "f", logits=logits)
    check_arrays("segmentation_loss", "iu", segmentation=segmentation)
    check_label_ids(label_ids, background=True)
    if logits.shape[:-1] != segmentation.shape:
        raise ValueError(
            f"segmentation_loss: logits has shape {logits.shape} and segmentation has shape {segmentation.shape}; "
            "they must be [B, *S, 1 + L] and [B, *S]"
        )
    if logits.shape[-1] != 1 + len(label_ids):
        raise ValueError(
            f"segmentation_loss: logits has {logits.shape[-1]} channels for {len(label_ids)} label ids; "
            "it must have one for each, and one for the background"
        )
    known = one_hot(segmentation, label_ids)
    background = 1 - jnp.sum(known, axis=-1, keepdims=True)
    log_probabilities = jax.nn.log_softmax(at_least_float32(logits))
    entropy = -jnp.sum(jnp.concatenate([background, known], axis=-1) * log_probabilities, axis=-1)
    overlap = dice_loss(known, jnp.exp(log_probabilities)[..., 1:])
    return jnp.mean(entropy, axis=tuple(range(1, segmentation.ndim))) + overlap
