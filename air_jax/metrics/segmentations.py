"""Overlap of integer segmentations for each label id. Plain `jax.numpy`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_integers, check_label_ids
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import Array, check_same_shape


@on_any_mesh
def label_dice(fixed: Array, warped: Array, label_ids: Sequence[int]) -> jax.Array:
    """Computes the Dice overlap of two segmentations for each label id (Dice, Ecology 1945).

    Args:
      fixed: `[B, *S]` integer. A single segmentation needs its batch axis, because `[D, H, W]` could be `[B, H, W]`.
      warped: the same shape; the moving segmentation warped with nearest neighbour (`warp` with `order=0`).
      label_ids: the `L` label ids to score, without the background 0.

    Returns:
      `[B, L]` in [0, 1], in the order of `label_ids`: 0 where one side lacks the label id, NaN where both do.

    Raises:
      ValueError: the shapes differ, or a segmentation is not of integers or has integers beyond JAX's.
      OptionError: the label ids are none, not integers, beyond JAX's integers, or one is 0 or there twice.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8), int).at[:, 2:6, 2:6].set(3)
      >>> air_jax.metrics.label_dice(fixed, jnp.roll(fixed, 1, axis=1), (3, 4)).tolist()
      [[0.75, nan]]
    """
    check_arrays("label_dice", "iub", fixed=fixed, warped=warped)
    check_same_shape("label_dice", "[B, *S]", fixed=fixed, warped=warped)
    if fixed.ndim < 2:
        raise ValueError(f"label_dice: fixed has shape {fixed.shape}; it must be [B, *S]")
    check_label_ids(label_ids)
    check_integers("label_dice", fixed=fixed, warped=warped)
    fixed, warped = jnp.asarray(fixed), jnp.asarray(warped)
    axes = tuple(range(1, fixed.ndim))

    def dice(label_id):
        a, b = fixed == label_id, warped == label_id
        return 2 * jnp.sum(a & b, axis=axes) / (jnp.sum(a, axis=axes) + jnp.sum(b, axis=axes))

    # One label id after the other: all at once would need the memory of `L` segmentations.
    return jnp.moveaxis(jax.lax.map(dice, jnp.asarray(label_ids)), 0, -1)


@on_any_mesh
def label_mean(scores: Array) -> jax.Array:
    """Averages scores over the label ids that have one: NaN and infinity are left out.

    The number of label ids without a finite distance is a score of its own, see `label_hd95`.

    Args:
      scores: `[..., L]`, a score for each label id in any unit.

    Returns:
      `[...]` in the same unit; NaN where no label id has a score.

    Raises:
      TypeError: the scores are no array.

    Examples:
      >>> float(air_jax.metrics.label_mean(np.array([0.5, 1.0, np.nan])))
      0.75
    """
    check_arrays("label_mean", "fiu", scores=scores)
    finite = jnp.isfinite(scores)
    return jnp.sum(jnp.where(finite, scores, 0), axis=-1) / jnp.sum(finite, axis=-1)
