"""Segmentations on the template's grid: warped, voted, and compared by pairs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import metrics
from air_jax.file_templates.group import Group
from air_jax.transforms import apply_affine, identity_grid, sample
from air_jax.transforms.spaces import label_ranks


def warped_labels(group: Group, affines: np.ndarray, fields: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Warps each segmentation onto the template's grid with nearest neighbour.

    Args:
      group: the images; each has a segmentation.
      affines, fields: as in `air_jax.file_templates.rounds.State`.

    Returns:
      The label ids, the background 0 first, and their ranks `[n, *S]` int32; 0 outside of an image.
    """
    ids, ranks = label_ranks(*(each.segmentation for each in group.subjects if each.segmentation is not None))
    warped = np.zeros(fields.shape[:-1], np.int32)
    matrices = group.voxel_matrices(affines)
    for own, field, matrix, output in zip(ranks, fields, matrices, warped, strict=True):
        padded = np.zeros(group.images.shape[1:], np.int32)
        padded[(*map(slice, own.shape), 0)] = own
        output[...] = np.asarray(_nearest(padded[None], field[None], jnp.asarray(matrix, jnp.float32)[None]))[0, ..., 0]
    return ids, warped


def vote(ranks: np.ndarray) -> np.ndarray:
    """Returns the label that most of `[n, *S]` have at each voxel `[*S]`; the lowest of several."""
    ordered = np.sort(ranks, axis=0)
    best, most = ordered[0].copy(), (ordered == ordered[0]).sum(axis=0)
    for candidate in ordered[1:]:
        votes = (ordered == candidate).sum(axis=0)
        better = votes > most
        best[better], most[better] = candidate[better], votes[better]
    return best


def pair_dice(ranks: np.ndarray, num_ids: int) -> dict[str, float | int] | None:
    """Compares all pairs of segmentations `[n, *S]` on one grid.

    Args:
      ranks: of the labels, 0 for the background.
      num_ids: the number of label ids, the background included.

    Returns:
      Over pairs: the mean, standard deviation, smallest and largest of their Dice, which is the mean over labels; and
      the number of pairs. None without a label.
    """
    if num_ids < 2:
        return None
    values = []
    for first, second in itertools.combinations(ranks, 2):
        values.append(float(metrics.label_mean(_dice(first[None], second[None], tuple(range(1, num_ids))))[0]))
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return None
    statistics = {"mean": np.mean(finite), "sd": np.std(finite), "min": np.min(finite), "max": np.max(finite)}
    return {name: float(value) for name, value in statistics.items()} | {"pairs": len(values)}


@jax.jit
def _nearest(labels, fields, matrices):
    points = apply_affine(matrices, identity_grid(fields.shape[1:-1])[None] + fields)
    return sample(labels, points, order=0)


_dice = jax.jit(metrics.label_dice, static_argnums=2)
