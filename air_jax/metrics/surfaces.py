"""Distances between the surfaces of segmentations. NumPy and SciPy, one pair at a time."""

from collections.abc import Sequence

import numpy as np

from air_jax.metrics.labels import check_labels


def hd95(fixed: np.ndarray, warped: np.ndarray, spacing: Sequence[float]) -> float:
    """The 95th percentile of the Hausdorff distance between two masks.

    From every surface voxel of one mask the Euclidean distance to the nearest surface voxel of the other is taken, and
    the 95th percentile of these distances, by linear interpolation; the score is the larger of the two directions'
    (the ranked distance of Huttenlocher et al., PAMI 1993). The surface of a mask is what erosion by the voxels that
    share a face removes; outside the image is background. Learn2Reg's script weighs surface elements by their area and
    always takes a spacing of 1, so its figures differ.

    Args:
      fixed: `[*S]` bool, 2-D or 3-D.
      warped: `[*S]` bool.
      spacing: `[N]`, a voxel's size along each array axis, in mm; ones for a distance in voxels.

    Returns:
      The distance in the unit of `spacing`; infinity if one mask is empty, NaN if both are.

    Raises:
      ValueError: the shapes differ, or `spacing` has not one entry an axis.
    """
    from scipy import ndimage  # here, because it takes 0.1 s of every start, and training does without it

    _check_segmentations(fixed, warped, spacing)
    fixed, warped = np.asarray(fixed, bool), np.asarray(warped, bool)
    if not (fixed.any() and warped.any()):
        return np.nan if fixed.any() == warped.any() else np.inf
    # All voxels that matter are in the box around both masks, which is small for one label of a brain.
    (box,) = ndimage.find_objects((fixed | warped).astype(np.uint8))
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (fixed, warped)]
    distances = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    return float(max(np.percentile(distances[1][surfaces[0]], 95), np.percentile(distances[0][surfaces[1]], 95)))


def label_hd95(fixed: np.ndarray, warped: np.ndarray, labels: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """`hd95` of every label of two segmentations.

    Args:
      fixed: `[*S]` integer, 2-D or 3-D.
      warped: `[*S]` integer, the moving segmentation warped with nearest neighbour (`warp` with `order=0`).
      labels: the `L` labels to score, none of them 0, the background.
      spacing: `[N]`, a voxel's size along each array axis, in mm; ones for a distance in voxels.

    Returns:
      `[L]` in the unit of `spacing`: infinity where one side lacks the label, NaN where both do. `label_mean` leaves
      both out; `np.isinf(...).sum()` counts the labels that only one side has, and belongs beside the mean.

    Raises:
      ValueError: the shapes differ, `spacing` has not one entry an axis, or 0 is among the labels.
    """
    check_labels(labels)
    _check_segmentations(fixed, warped, spacing)
    fixed, warped = np.asarray(fixed), np.asarray(warped)
    return np.array([hd95(fixed == label, warped == label, spacing) for label in labels])


def _check_segmentations(fixed: np.ndarray, warped: np.ndarray, spacing: Sequence[float]) -> None:
    if fixed.shape != warped.shape or len(spacing) != fixed.ndim:
        raise ValueError(
            f"segmentations of shapes {fixed.shape} and {warped.shape} with spacing {tuple(spacing)}; "
            "both must be [*S], with one entry of spacing an axis"
        )
