"""Affine maps fitted to landmarks alone, by least squares."""

from collections.abc import Sequence

import numpy as np

from air_jax.checks import as_array, check_choice
from air_jax.errors import OptionError
from air_jax.optimize.affine_parameters import AFFINES
from air_jax.optimize.constraints import check_restrict

# Points lie on a line or a plane where their smallest spread is below this share of their largest.
LEAST_SPREAD = 1e-3


def fit_landmarks(
    fixed: np.ndarray, moving: np.ndarray, *, kind: str = "affine", restrict: Sequence[float] | None = None
) -> np.ndarray:
    """Fits an affine map to pairs of points: the least squares of the distances in the moving space.

    Args:
      fixed: `[K, N]`, points in lengths, such as mm; no voxels unless these have sides of equal length.
      moving: `[K, N]`, the same points in the moving space.
      kind: free parameters, a key of `AFFINES`.
      restrict: `[N]`, 1 where points may move along an axis and 0 where they keep the coordinate. The other coordinates
        are then fitted alone; an "affine" may depend on all coordinates. Default: all axes are free.

    Returns:
      `[N, N + 1]` float64, from fixed to moving points.

    Raises:
      OptionError: an unknown kind, or a wrong `restrict`.
      ValueError: points of other shapes or that are not finite; or too few, or that lie on a line or a plane, so that
        they do not determine the map.

    Reference:
      Umeyama 1991, Least-squares estimation of transformation parameters between two point patterns.

    Examples:
      >>> fixed = np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
      >>> matrix = air_jax.optimize.fit_landmarks(fixed, 2 * fixed + 1, kind="similarity")
      >>> (matrix.round(6) + 0.0).tolist()
      [[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]]
    """
    check_choice("kind", kind, AFFINES)
    fixed = as_array("fit_landmarks", "fixed", fixed, "fiu").astype(np.float64)
    moving = as_array("fit_landmarks", "moving", moving, "fiu").astype(np.float64)
    if fixed.ndim != 2 or fixed.shape != moving.shape or fixed.shape[1] not in (2, 3):
        raise ValueError(
            f"landmarks have shapes {fixed.shape} (fixed) and {moving.shape} (moving); both must be [K, 2] or [K, 3]"
        )
    if not (np.isfinite(fixed).all() and np.isfinite(moving).all()):
        raise ValueError("landmarks have coordinates that are not finite")
    num_axes = fixed.shape[1]
    if restrict is not None:
        check_restrict(restrict)
    free = np.ones(num_axes, bool) if restrict is None else np.asarray(restrict) == 1
    if len(free) != num_axes or not free.any():
        raise OptionError("restrict", restrict, f"must have {num_axes} numbers, at least one of them 1")
    result = np.eye(num_axes, num_axes + 1)
    if kind == "affine":
        _check_spread(fixed, num_axes, kind)
        homogeneous = np.concatenate([fixed, np.ones((len(fixed), 1))], axis=1)
        result[free] = np.linalg.lstsq(homogeneous, moving[:, free], rcond=None)[0].T
        stretches = np.linalg.svd(result[:, :-1], compute_uv=False)
        if stretches[-1] <= LEAST_SPREAD * stretches[0]:
            raise ValueError("the moving landmarks lie on a plane or a line; no invertible affine leads to them")
        return result
    linear, translation = _rotation_fit(fixed[:, free], moving[:, free], kind)
    result[np.ix_(free, np.append(free, False))] = linear
    result[free, -1] = translation
    return result


def _rotation_fit(fixed: np.ndarray, moving: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Linear part `[n, n]` and translation `[n]` of a translation, rigid motion or similarity of n axes."""
    num_axes, freedom = fixed.shape[1], AFFINES[kind]
    if not len(fixed):
        raise ValueError(f"0 landmarks do not determine a {kind} map; give at least 1")
    here, there = fixed.mean(axis=0), moving.mean(axis=0)
    linear = np.eye(num_axes)
    if freedom.rotation:
        # One direction less than axes determines a rotation; a scale needs one direction also on a line.
        for points in (fixed, moving):
            _check_spread(points, max(num_axes - 1, int(freedom.scale)), kind)
        covariance = (moving - there).T @ (fixed - here)
        left, values, right = np.linalg.svd(covariance)
        signs = np.ones(num_axes)
        signs[-1] = np.sign(np.linalg.det(left) * np.linalg.det(right))  # a rotation does not mirror
        linear = left @ np.diag(signs) @ right
        if freedom.scale:
            linear = linear * (values @ signs / np.square(fixed - here).sum())
    return linear, there - linear @ here


def _check_spread(points: np.ndarray, directions: int, kind: str) -> None:
    """Refuses points that spread into fewer directions than a map needs."""
    name = f"an {kind}" if kind == "affine" else f"a {kind}"
    if len(points) < directions + 1:
        raise ValueError(
            f"{len(points)} landmark(s) do not determine {name} map in {points.shape[1]}-D; "
            f"give at least {directions + 1}"
        )
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    found = int((spread > LEAST_SPREAD * spread[0]).sum()) if spread[0] > 0 else 0
    if found < directions:
        shape = ("in one point", "on a line", "on a plane")[found]
        raise ValueError(f"the landmarks lie {shape} and do not determine {name} map; add points beside it")
