"""Refinement: from zero, from a displacement, pair by pair."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from air_jax import metrics, warp
from air_jax.losses import make_objective
from air_jax.optimize import refine
from air_jax.transforms import corner_jacobian_determinant, identity_grid

OBJECTIVE = make_objective("mse", folding=5.0)


def blobs(shape, centres, width=3.0):
    """Smooth blobs, one an image, at the given centres."""
    grid = np.asarray(identity_grid(shape))
    return np.stack([np.exp(-((grid - np.asarray(centre)) ** 2).sum(axis=-1) / (2 * width**2)) for centre in centres])[
        ..., None
    ].astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "there", "here"),
    [((24, 24), [(10, 11), (14, 12)], [(13, 13), (12, 10)]), ((14, 14, 14), [(6, 7, 7)], [(8, 6, 7)])],
)
def test_blobs_are_brought_together_without_folds(shape, there, here):
    fixed, moving = blobs(shape, there), blobs(shape, here)
    start = jnp.zeros((len(there), *shape, len(shape)))
    displacement = refine(OBJECTIVE, fixed, moving, start, num_steps=60)
    before, after = (metrics.image_scores(fixed, warp(moving, u))["mse"] for u in (start, displacement))
    assert np.all(after < 0.02 * before)
    assert float(corner_jacobian_determinant(displacement).min()) > 0
    # Where the blob is, the field points from its place in the fixed image to that in the moving one.
    for field, centre, target in zip(displacement, there, here, strict=True):
        np.testing.assert_allclose(field[tuple(centre)], np.subtract(target, centre), atol=0.6)


def test_pairs_do_not_see_each_other():
    rng = np.random.default_rng(0)
    fixed, moving = (gaussian_filter(rng.random((3, 20, 20, 1)), (0, 2, 2, 0)).astype(np.float32) for _ in range(2))
    start = jnp.zeros((3, 20, 20, 2))
    together = refine(OBJECTIVE, fixed, moving, start, num_steps=12)
    alone = refine(OBJECTIVE, fixed[1:2], moving[1:2], start[1:2], num_steps=12)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-3)


def test_it_goes_on_from_where_it_starts():
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(13, 13)])
    start = jnp.broadcast_to(jnp.asarray([3.0, 2.0]), (1, 24, 24, 2))
    displacement = refine(OBJECTIVE, fixed, moving, start, num_steps=3)
    assert metrics.image_scores(fixed, warp(moving, displacement))["mse"] < 1e-3
    np.testing.assert_array_equal(refine(OBJECTIVE, fixed, moving, start, num_steps=0), start)
