"""What the tests of refinement share: an objective, fields of few levels, images of blobs."""

from functools import partial

import numpy as np
import scipy.ndimage

from air_jax.losses import make_objective
from air_jax.optimize import BSplineField, DenseField, VelocityField
from air_jax.transforms import identity_grid

OBJECTIVE = make_objective("mse", folding=5.0)
# Few levels, because each is compiled.
DENSE, ONE_LEVEL = DenseField(levels=(2, 1)), DenseField(levels=(1,))
BSPLINE, VELOCITY = BSplineField(levels=((1, 2),)), VelocityField(levels=((1, 2),), integration_steps=2)


def blobs(shape, centres, width=3.0, voxel_size=None):
    """One smooth blob an image, at the given centres; with `voxel_size`, centres and widths are in its unit."""
    grid = np.asarray(identity_grid(shape)) * (1.0 if voxel_size is None else np.asarray(voxel_size))
    return np.stack([np.exp(-((grid - np.asarray(centre)) ** 2).sum(axis=-1) / (2 * width**2)) for centre in centres])[
        ..., None
    ].astype(np.float32)


def mse(fixed, warped):
    return np.square(np.asarray(fixed) - np.asarray(warped)).mean(axis=tuple(range(1, fixed.ndim)))


def warped(moving, displacement, matrix=None):
    """Images `[B, *V, C]` moved by displacements `[B, *S, N]` and then by affines `[B, N, N + 1]`, by SciPy."""
    shape = displacement.shape[1:-1]
    points = np.stack(np.indices(shape), axis=-1) + np.asarray(displacement)
    if matrix is not None:
        points = np.einsum("bij,b...j->b...i", matrix[..., :-1], points)
        points += np.expand_dims(matrix[..., -1], tuple(range(1, 1 + len(shape))))
    sample = partial(scipy.ndimage.map_coordinates, order=1, mode="nearest")
    return np.stack([sample(image[..., 0], np.moveaxis(at, -1, 0)) for image, at in zip(moving, points, strict=True)])[
        ..., None
    ]
