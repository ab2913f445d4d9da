"""Cubic B-splines, against SciPy and the bound of Choi & Lee."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from air_jax.transforms import bspline, control_shape, jacobian_determinant


@pytest.mark.parametrize(("shape", "spacing"), [((12, 15), (4, 5)), ((13, 9), (1, 2)), ((8, 9, 7), (4, 3, 2))])
def test_bspline_agrees_with_scipy(shape, spacing):
    counts = control_shape(shape, spacing)
    control = np.random.default_rng(0).standard_normal((1, *counts, 2))
    expected = control
    for axis, (size, step, count) in enumerate(zip(shape, spacing, counts, strict=True), start=1):
        padded = np.pad(expected, [(0, 0)] * axis + [(2, 2)] + [(0, 0)] * (expected.ndim - axis - 1), mode="edge")
        # Control point k, at (k + 0.5) * step - 0.5, is the basis function centred there.
        knots = (np.arange(count + 4 + 4) - 4 + 0.5) * step - 0.5
        spline = BSpline(knots, np.moveaxis(padded, axis, 0), 3)
        expected = np.moveaxis(spline(np.arange(size)), 0, axis)
    np.testing.assert_allclose(bspline(jnp.asarray(control), spacing, shape), expected, atol=1e-5)


def test_bspline_of_a_constant_is_constant():
    np.testing.assert_allclose(bspline(jnp.full((1, 4, 5, 2), 3.0), (4, 3), (15, 13)), 3.0, rtol=1e-6)


def test_bspline_refuses_a_grid_that_does_not_fit():
    with pytest.raises(ValueError, match=r"control grid of \(4, 5\), not \(4, 4\)"):
        bspline(jnp.zeros((1, 4, 4, 2)), (4, 3), (15, 13))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "bound"), [((28, 28), 0.48), ((16, 16, 16), 0.40)])
def test_bounded_bsplines_do_not_fold(shape, bound):
    """The bound of Choi & Lee (2000), for random control points at the bound, the hardest case."""
    rng = np.random.default_rng(0)
    for spacing in (4, 2, 1):
        counts = control_shape(shape, (spacing,) * len(shape))
        control = bound * spacing * rng.choice([-1.0, 1.0], (20, *counts, len(shape)))
        field = bspline(jnp.asarray(control, jnp.float32), (spacing,) * len(shape), shape)
        assert float(jacobian_determinant(field).min()) > 0
