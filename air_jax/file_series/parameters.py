"""Motion parameters of the frames of a series, as tables and as numbers."""

from collections.abc import Sequence

import numpy as np

from air_jax.file_registration.affine_parts import decompose
from air_jax.io import to_physical
from air_jax.io.series import Series
from air_jax.io.space import spacing_of
from air_jax.transforms.spaces import homogeneous

HEAD_RADIUS = 50.0  # mm; Power et al. 2012 turn angles into lengths on a sphere of this size


def physical_maps(matrices: np.ndarray, series: Series) -> np.ndarray:
    """Returns the maps `[T, N, N+1]` of physical points of the reference to those of each frame.

    Args:
      matrices: `[T, N, N+1]`, from voxels of the reference to voxels of the frame.
      series: the series; all frames have its affine.
    """
    affine = series.affine
    return (affine @ homogeneous(matrices) @ np.linalg.inv(affine))[:, :-1]


def motion_parameters(maps: np.ndarray, series: Series) -> tuple[list[str], np.ndarray]:
    """Splits each frame's map into its translation and rotation.

    Args:
      maps: `[T, N, N+1]`, physical points of the reference to those of the frame.
      series: the series, whose centre is the point whose movement is the translation.

    Returns:
      The names of the parameters, `trans_x` to `rot_z` (2-D: `trans_x`, `trans_y`, `rot`), and their values
      `[T, P]`: mm (pixels for pictures) in LPS, and degrees about x, y and z.
    """
    axes = "xyz"[: series.num_axes]
    rotations = [f"rot_{axis}" for axis in axes] if series.num_axes == 3 else ["rot"]
    centre = to_physical((np.array(series.array.shape[1:]) - 1) / 2, series.affine)
    parts = [decompose(matrix, centre) for matrix in maps]
    values = [[*part["translation"], *part["rotation_degrees"]] for part in parts]
    return [*(f"trans_{axis}" for axis in axes), *rotations], np.array(values)


def framewise_displacement(parameters: np.ndarray, radius: float) -> np.ndarray:
    """Returns how far each frame moved since the frame before.

    The sum of the absolute differences of all parameters, angles as lengths on a sphere (Power et al. 2012,
    NeuroImage 59:2142, "Framewise displacement").

    Args:
      parameters: `[T, P]`, translations, then rotations in degrees.
      radius: of the sphere, in the unit of the translations.

    Returns:
      `[T - 1]`, in the unit of the translations.
    """
    num_axes = 2 if parameters.shape[1] == 3 else 3
    lengths = parameters.copy()
    lengths[:, num_axes:] = np.deg2rad(lengths[:, num_axes:]) * radius
    return np.abs(np.diff(lengths, axis=0)).sum(axis=1)


def sphere_radius(series: Series) -> float:
    """Returns the radius for `framewise_displacement`: `HEAD_RADIUS`, in 2-D a quarter of the longer side."""
    if series.num_axes == 3:
        return HEAD_RADIUS
    return float(np.max(spacing_of(series.affine) * series.array.shape[1:3])) / 4


def table(names: Sequence[str], parameters: np.ndarray, displacement: np.ndarray) -> str:
    """Returns the text of motion.tsv: one row a frame, `n/a` for the first frame's displacement, as in BIDS."""
    rows = ["\t".join([*names, "framewise_displacement"])]
    for values, moved in zip(parameters, ["n/a", *(f"{value:.6f}" for value in displacement)], strict=True):
        rows.append("\t".join([*(f"{value:.6f}" for value in values), moved]))
    return "\n".join(rows) + "\n"
