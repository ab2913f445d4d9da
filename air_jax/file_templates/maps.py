"""Means of maps, and the maps that make them the identity."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import expm, logm

from air_jax.transforms import compose, inverse
from air_jax.transforms.spaces import homogeneous

TOLERANCE = 1e-10  # of the entries of the mean logarithm
MOST_ITERATIONS = 50


def mean_logarithm(affines: np.ndarray) -> np.ndarray:
    """Returns the mean of the matrix logarithms, 0 where the log-Euclidean mean is the identity.

    Args:
      affines: `[n, N, N+1]`.

    Returns:
      `[N+1, N+1]` float64.

    Raises:
      ValueError: a map has no real logarithm, as it mirrors, has no inverse or turns by 180 degrees; the message is the
        index of the first one.
    """
    logarithms = []
    for index, square in enumerate(homogeneous(affines)):
        found = logm(square) if np.linalg.det(square) > 0 else np.full_like(square, np.nan)
        # SciPy returns complex numbers where a real logarithm is missing, or rounding made them so.
        if not np.isfinite(found).all() or np.abs(np.imag(found)).max() > 1e-6:
            raise ValueError(str(index))
        if np.abs(expm(np.real(found)) - square).max() > 1e-6 * max(1.0, np.abs(square).max()):
            raise ValueError(str(index))
        logarithms.append(np.real(found))
    return np.mean(logarithms, axis=0)


def centred_affines(affines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moves the space from which maps lead, so that their log-Euclidean mean is the identity.

    Each map `A` becomes `A E`. A few such steps are needed because matrices do not commute; the result is the
    bi-invariant mean of Pennec & Arsigny (2012, Exponential barycenters). The mean does not depend on the origin.

    Args:
      affines: `[n, N, N+1]` float64, points of the template to those of each subject.

    Returns:
      The maps `[n, N, N+1]`, and `E` `[N, N+1]`, points of the new template to those of the old one.

    Raises:
      ValueError: as `mean_logarithm`.
    """
    squares, change = homogeneous(affines), np.eye(affines.shape[-1])
    for _ in range(MOST_ITERATIONS):
        mean = mean_logarithm(squares[:, :-1])
        if np.abs(mean).max() < TOLERANCE * max(1.0, np.abs(squares).max()):
            break
        step = expm(-mean)
        squares, change = squares @ step, change @ step
    return squares[:, :-1], change[:-1]


def centred_fields(fields: np.ndarray) -> np.ndarray:
    """Composes displacements with the inverse of their mean, so that their mean is zero.

    With `(id + mean) o (id + v) = id`, the mean of `u(p + v(p)) + v(p)` is 0 at every voxel, up to the residual of `v`.

    Args:
      fields: `[n, *S, N]` in voxels.

    Returns:
      `[n, *S, N]` float32.
    """
    back = _inverse(jnp.asarray(fields.mean(axis=0, dtype=np.float64), jnp.float32)[None])
    return np.stack([np.asarray(_compose(jnp.asarray(field)[None], back))[0] for field in fields])


@jax.jit
def _inverse(field):
    return inverse(field)[0]


_compose = jax.jit(compose)
