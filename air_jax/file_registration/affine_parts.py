"""The affine of a registration in physical space, and its parts as a reader expects them."""

from typing import Any

import numpy as np
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from air_jax.file_registration.inputs import Inputs
from air_jax.io.space import to_physical
from air_jax.transforms.spaces import homogeneous


def physical_affine(inputs: Inputs, matrix: np.ndarray) -> np.ndarray:
    """Returns an affine between the two images' physical spaces.

    Args:
      inputs: the files' content.
      matrix: `[N, N+1]`, fixed to moving voxels.

    Returns:
      `[N, N+1]` float64, from physical points of the fixed image to those of the moving image, x first.
    """
    return (inputs.moving.volume.affine @ homogeneous(matrix) @ np.linalg.inv(inputs.fixed.volume.affine))[:-1]


def voxel_affine(inputs: Inputs, affine: np.ndarray) -> np.ndarray:
    """Returns the inverse of `physical_affine`: `[N, N+1]`, fixed to moving voxels."""
    return np.linalg.solve(inputs.moving.volume.affine, homogeneous(affine) @ inputs.fixed.volume.affine)[:-1]


def decompose(affine: np.ndarray, centre: np.ndarray) -> dict[str, Any]:
    """Splits an affine into rotation, stretch and the movement of one point.

    The linear part is `R U` (polar decomposition): a rotation `R` after a symmetric stretch `U`. `scales` are the
    diagonal of `U`, `shears` its entries xy, xz, yz divided by the scale of their first axis.

    Args:
      affine: `[N, N+1]`, physical points of the fixed image to those of the moving image, x first.
      centre: `[N]`, the point whose movement is the translation.

    Returns:
      `rotation_degrees`: one angle in 2-D, about x, y and z, in this order, in 3-D. `translation`, `scales`, `shears`.
      `mirrored`: whether the map mirrors; the rotation is then that of the map after x is mirrored.
    """
    linear = affine[:, :-1]
    num_axes = len(linear)
    mirrored = bool(np.linalg.det(linear) < 0)
    if mirrored:
        linear = linear @ np.diag([-1.0, *[1.0] * (num_axes - 1)])
    rotation, stretch = polar(linear)
    if num_axes == 2:
        degrees = [np.rad2deg(np.arctan2(rotation[1, 0], rotation[0, 0]))]
    else:
        degrees = Rotation.from_matrix(rotation).as_euler("xyz", degrees=True)
    pairs = [(i, j) for i in range(num_axes) for j in range(i + 1, num_axes)]
    return {
        "rotation_degrees": _rounded(degrees),
        "translation": _rounded(affine[:, :-1] @ centre + affine[:, -1] - centre),
        "scales": _rounded(np.diag(stretch)),
        "shears": _rounded([stretch[i, j] / stretch[i, i] for i, j in pairs]),
        "mirrored": mirrored,
    }


def affine_report(inputs: Inputs, matrix: np.ndarray) -> dict[str, Any]:
    """Returns what scores.json says of the affine: its physical `matrix` and its parts, about the fixed image's centre.

    Args:
      inputs: the files' content.
      matrix: `[N, N+1]`, fixed to moving voxels.
    """
    affine, volume = physical_affine(inputs, matrix), inputs.fixed.volume
    centre = to_physical((np.array(volume.shape) - 1) / 2, volume.affine)
    return {"matrix": affine.tolist()} | decompose(affine, centre)


def described(report: dict[str, Any], unit: str) -> str:
    """Returns `affine_report` in one line for the terminal. `unit`: of lengths."""
    parts = {
        "rotated by": (report["rotation_degrees"], " degrees"),
        "translated by": (report["translation"], f" {unit}"),
        "scaled by": (report["scales"], ""),
        "sheared by": (report["shears"], ""),
    }
    words = [f"{verb} {', '.join(f'{value:.3g}' for value in values)}{end}" for verb, (values, end) in parts.items()]
    return "affine: " + ("mirrored; " if report["mirrored"] else "") + "; ".join(words)


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) + 0.0 for value in values]
