"""Overlap of integer segmentations, label by label. Plain `jax.numpy`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def label_dice(fixed: jax.Array, warped: jax.Array, labels: Sequence[int]) -> jax.Array:
    """Dice overlap of every label of two segmentations (Dice, Ecology 1945).

    Args:
      fixed: `[B, *S]` integer. A single segmentation needs its leading axis, as `[D, H, W]` might be `[B, H, W]`.
      warped: `[B, *S]` integer, the moving segmentation warped with nearest neighbour (`warp` with `order=0`).
      labels: the `L` labels to score, none of them 0, the background.

    Returns:
      `[B, L]` in [0, 1], in the order of `labels`: 0 where one side lacks the label, NaN where both do.

    Raises:
      ValueError: the shapes differ, or 0 is among the labels.
    """
    if fixed.shape != warped.shape:
        raise ValueError(f"label_dice: fixed has shape {fixed.shape} and warped {warped.shape}; they must be the same")
    check_labels(labels)
    fixed, warped = jnp.asarray(fixed), jnp.asarray(warped)
    axes = tuple(range(1, fixed.ndim))

    def dice(label):
        a, b = fixed == label, warped == label
        return 2 * jnp.sum(a & b, axis=axes) / (jnp.sum(a, axis=axes) + jnp.sum(b, axis=axes))

    # One label after the other: all at once would need the memory of `L` segmentations.
    return jnp.moveaxis(jax.lax.map(dice, jnp.asarray(labels)), 0, -1)


def label_mean(scores: jax.Array) -> jax.Array:
    """Mean of per-label scores `[..., L]` over the labels that have one, `[...]`: NaN and infinity are left out.

    NaN where no label has a score. How many labels had no finite distance is a score of its own, see `label_hd95`.
    """
    finite = jnp.isfinite(scores)
    return jnp.sum(jnp.where(finite, scores, 0), axis=-1) / jnp.sum(finite, axis=-1)


def check_labels(labels: Sequence[int]) -> None:
    """Raises `ValueError` when the background, 0, is among the labels."""
    if 0 in labels:
        raise ValueError(f"labels are {list(labels)}; 0 is the background and has no score")
