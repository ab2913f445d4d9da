"""Distances between the surfaces of segmentations. NumPy and SciPy, one pair at a time."""

from collections.abc import Sequence

import numpy as np

from air_jax.checks import check_arrays, check_label_ids, check_spacing
from air_jax.transforms.shapes import check_same_shape


def hd95(fixed: np.ndarray, warped: np.ndarray, spacing: Sequence[float]) -> float:
    """Computes the 95th percentile of the Hausdorff distance between two masks (Huttenlocher et al., PAMI 1993).

    It takes the Euclidean distance of every surface voxel of one mask to the nearest surface voxel of the other, and
    the 95th percentile of these distances by linear interpolation. The score is the larger of both directions. The
    surface voxels of a mask are those that share a face with the background; outside the image is background. The
    script of Learn2Reg weighs surface elements by their area and always uses a spacing of 1, so its values differ.

    Args:
      fixed: `[*S]` bool, 2-D or 3-D.
      warped: the same shape, bool.
      spacing: `[N]`, size of a voxel along each array axis in mm; ones for a distance in voxels.

    Returns:
      The distance in the unit of `spacing`; infinity if one mask is empty, NaN if both are.

    Raises:
      ValueError: the masks are not 2-D or 3-D, their shapes differ, or `spacing` does not have one entry for each axis.

    Examples:
      >>> fixed = np.zeros((8, 8), bool)
      >>> fixed[2:6, 2:6] = True
      >>> air_jax.metrics.hd95(fixed, np.roll(fixed, 1, axis=0), (2.0, 1.0))
      2.0
    """
    from scipy import ndimage  # here, because its import takes 0.1 s of every start, and training does not need it

    check_arrays("hd95", "biu", fixed=fixed, warped=warped)
    _check_segmentations("hd95", fixed, warped, spacing)
    fixed, warped = np.asarray(fixed, bool), np.asarray(warped, bool)
    if not (fixed.any() and warped.any()):
        return np.nan if fixed.any() == warped.any() else np.inf
    # Only the box around both masks matters, which is small for one structure of a brain.
    (box,) = ndimage.find_objects((fixed | warped).astype(np.uint8))
    surfaces = [mask[box] & np.logical_not(ndimage.binary_erosion(mask[box])) for mask in (fixed, warped)]
    distances = [np.asarray(ndimage.distance_transform_edt(~surface, sampling=spacing)) for surface in surfaces]
    return float(max(np.percentile(distances[1][surfaces[0]], 95), np.percentile(distances[0][surfaces[1]], 95)))


def label_hd95(fixed: np.ndarray, warped: np.ndarray, label_ids: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Computes `hd95` of two segmentations for each label id.

    Args:
      fixed: `[*S]` integer, 2-D or 3-D.
      warped: the same shape; the moving segmentation warped with nearest neighbour (`warp` with `order=0`).
      label_ids: the `L` label ids to score, without the background 0.
      spacing: `[N]`, size of a voxel along each array axis in mm; ones for a distance in voxels.

    Returns:
      `[L]` in the unit of `spacing`: infinity where one side lacks the label id, NaN where both do. `label_mean` leaves
      out both. Report `np.isinf(...).sum()`, the number of label ids that only one side has, beside the mean.

    Raises:
      ValueError: the segmentations are not 2-D or 3-D, their shapes differ, or `spacing` does not have one entry for
        each axis.
      OptionError: 0 is among the label ids.

    Examples:
      >>> fixed = np.zeros((8, 8), int)
      >>> fixed[2:6, 2:6] = 3
      >>> air_jax.metrics.label_hd95(fixed, np.roll(fixed, 1, axis=0), (3, 4), (2.0, 1.0)).tolist()
      [2.0, nan]
    """
    check_label_ids(label_ids)
    check_arrays("label_hd95", "biu", fixed=fixed, warped=warped)
    _check_segmentations("label_hd95", fixed, warped, spacing)
    fixed, warped = np.asarray(fixed), np.asarray(warped)
    return np.array([hd95(fixed == label_id, warped == label_id, spacing) for label_id in label_ids])


def _check_segmentations(function: str, fixed: np.ndarray, warped: np.ndarray, spacing: Sequence[float]) -> None:
    check_same_shape(function, "[*S]", fixed=fixed, warped=warped)
    if fixed.ndim not in (2, 3):
        raise ValueError(
            f"{function}: fixed has shape {fixed.shape}; it must be [H, W] or [D, H, W], one pair without a batch axis"
        )
    check_spacing("spacing", spacing)
    if len(spacing) != fixed.ndim:
        raise ValueError(
            f"{function}: spacing is {tuple(spacing)} for shape {fixed.shape}; it must have one entry for each axis"
        )
