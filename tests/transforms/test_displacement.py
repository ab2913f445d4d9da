"""Displacement algebra and B-splines, against SciPy, SimpleITK and analytic fields."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from air_jax import warp
from air_jax.transforms import (
    bspline,
    cell_jacobian_determinants,
    compose,
    control_shape,
    corner_jacobian_determinant,
    exponential,
    identity_grid,
    inverse,
    jacobian_determinant,
    resize,
)

SHAPES = [(20, 23), (14, 12, 15)]


def smooth(shape, amplitude=1.0, batch=2, seed=0):
    """A random smooth field, by a B-spline with control points 5 voxels apart."""
    spacing = (5,) * len(shape)
    control = np.random.default_rng(seed).standard_normal((batch, *control_shape(shape, spacing), len(shape)))
    return amplitude * bspline(jnp.asarray(control, jnp.float32), spacing, shape)


def interior(field, margin=3):
    return np.asarray(field)[(slice(None), *(slice(margin, -margin),) * (field.ndim - 2))]


def inner(image, margin=4):
    """Zero near the border, so that what lies beyond it does not matter."""
    mask = np.zeros(image.shape, np.float32)
    mask[(slice(None), *(slice(margin, -margin),) * (image.ndim - 2))] = 1
    return image * mask


# ---- compose ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_compose_agrees_with_scipy(shape):
    first, second = np.asarray(smooth(shape, seed=1)), np.asarray(smooth(shape, seed=2))
    composed = compose(jnp.asarray(first), jnp.asarray(second))
    for b in range(2):
        coordinates = np.moveaxis(np.asarray(identity_grid(shape)) + second[b], -1, 0)
        for axis in range(len(shape)):
            expected = second[b, ..., axis] + map_coordinates(first[b, ..., axis], coordinates, order=1, mode="nearest")
            np.testing.assert_allclose(composed[b, ..., axis], expected, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_composed_warp_is_two_warps(shape):
    """On a linear image, which interpolation does not blur, away from the border."""
    image = np.asarray(identity_grid(shape)).sum(axis=-1)[None, ..., None].repeat(2, axis=0)
    first, second = smooth(shape, 0.5, seed=1), smooth(shape, 0.5, seed=2)
    once = warp(image, compose(first, second))
    twice = warp(warp(image, first), second)
    # The second warp of `twice` interpolates what the first made, `compose` interpolates the first field: the same.
    np.testing.assert_allclose(interior(once), interior(twice), atol=1e-4)


def test_translations_add_also_at_the_border():
    first, second = (jnp.broadcast_to(jnp.asarray(t), (1, 6, 7, 2)) for t in ([1.5, -2.0], [3.0, 0.25]))
    np.testing.assert_allclose(compose(first, second), jnp.broadcast_to(jnp.asarray([4.5, -1.75]), (1, 6, 7, 2)))


def test_compose_refuses_other_shapes():
    with pytest.raises(ValueError, match="must be the same"):
        compose(jnp.zeros((1, 5, 5, 2)), jnp.zeros((1, 5, 6, 2)))


# ---- exponential -----------------------------------------------------------------------------------------------------


def test_exponential_of_a_translation_and_of_a_rotation():
    translation = jnp.broadcast_to(jnp.asarray([2.0, -3.5]), (1, 9, 9, 2))
    np.testing.assert_allclose(exponential(translation), translation, rtol=1e-5)
    # v = A (p - c) with A skew turns about c by its angle; the exponential of A is the rotation matrix.
    angle, centre = 0.4, np.asarray([20.0, 20.0])
    offsets = np.asarray(identity_grid((41, 41))) - centre
    velocity = angle * np.stack([-offsets[..., 1], offsets[..., 0]], axis=-1)
    rotation = np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = offsets @ rotation.T - offsets
    result = exponential(jnp.asarray(velocity[None], jnp.float32), integration_steps=8)
    np.testing.assert_allclose(result[0, 12:29, 12:29], expected[12:29, 12:29], atol=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_exponential_of_minus_v_inverts_that_of_v(shape):
    velocity = smooth(shape, 1.5)
    there, back = exponential(velocity), exponential(-velocity)
    assert np.abs(interior(there)).max() > 1
    assert np.abs(interior(compose(there, back))).max() < 0.05
    assert np.abs(interior(compose(back, there))).max() < 0.05


def test_exponential_agrees_with_small_euler_steps():
    velocity = np.asarray(smooth((20, 20), 2.0, batch=1))[0]
    position = np.asarray(identity_grid((20, 20)), np.float64)
    num_steps = 2_000
    for _ in range(num_steps):
        coordinates = np.moveaxis(position, -1, 0)
        flow = [map_coordinates(velocity[..., axis], coordinates, order=1, mode="nearest") for axis in range(2)]
        position += np.stack(flow, axis=-1) / num_steps
    result = exponential(jnp.asarray(velocity[None]), integration_steps=8)[0]
    np.testing.assert_allclose(result, position - np.asarray(identity_grid((20, 20))), atol=0.05)


def test_exponential_of_large_smooth_velocity_does_not_fold():
    velocity = smooth((40, 40), 4.0)
    assert float(corner_jacobian_determinant(velocity).min()) < 0
    assert float(corner_jacobian_determinant(exponential(velocity)).min()) > 0


def test_exponential_keeps_edge_values_at_the_border():
    """Zeros beyond the border would leak inward: a flow along the border must stay what it is."""
    velocity = jnp.zeros((1, 12, 12, 2)).at[..., 1].set(5.0)
    np.testing.assert_allclose(exponential(velocity)[..., 1], 5.0, rtol=1e-5)


def test_negative_squarings_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        exponential(jnp.zeros((1, 5, 5, 2)), -1)


# ---- inverse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_composition_with_the_inverse_is_the_identity(shape):
    displacement = exponential(smooth(shape, 2.0))
    assert np.abs(displacement).max() > 2
    inverted, residual = inverse(displacement)
    assert residual.shape == displacement.shape[:-1]
    assert float(residual.max()) < 1e-3
    np.testing.assert_allclose(residual, np.linalg.norm(compose(displacement, inverted), axis=-1), atol=1e-6)
    assert np.abs(interior(compose(inverted, displacement), 5)).max() < 0.1  # interpolates the inverse


def test_inverse_where_the_map_stretches_too_much_for_the_plain_iteration():
    row = np.asarray(identity_grid((30, 30)))[..., 0]
    displacement = np.zeros((1, 30, 30, 2), np.float32)
    displacement[0, ..., 0] = 2.5 * (row - 14.5)  # p + u(p) = 14.5 + 3.5 (p - 14.5)
    inverted, residual = inverse(jnp.asarray(displacement), num_iterations=60)
    np.testing.assert_allclose(inverted[0, ..., 0], (row - 14.5) / 3.5 - (row - 14.5), atol=1e-3)
    assert float(residual.max()) < 1e-2


def test_inverse_agrees_with_simpleitk():
    displacement = np.asarray(exponential(smooth((30, 33), 1.5, batch=1)))
    image = SimpleITK.GetImageFromArray(displacement[0, ..., ::-1].astype(np.float64), isVector=True)
    reference = SimpleITK.GetArrayFromImage(
        SimpleITK.InvertDisplacementField(image, maximumNumberOfIterations=100, maxErrorToleranceThreshold=1e-4)
    )[..., ::-1]
    inverted, _ = inverse(jnp.asarray(displacement))
    # Away from the border, at which ITK holds the inverse at zero.
    np.testing.assert_allclose(interior(inverted, 7)[0], interior(reference[None], 7)[0], atol=0.02)


def test_the_residual_tells_of_a_fold():
    displacement = np.zeros((1, 16, 16, 2), np.float32)
    displacement[0, 6:10, :, 0] = [[4.0], [2.0], [-2.0], [-4.0]]
    assert float(inverse(jnp.asarray(displacement))[1].max()) > 0.3


# ---- resize ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "other"), [((8, 12), (16, 36)), ((16, 36), (8, 12)), ((6, 8, 10), (9, 8, 20))])
def test_resize_scales_vectors_with_the_voxels(shape, other):
    scale = np.asarray(other) / np.asarray(shape)
    linear = 0.25 * (np.asarray(identity_grid(shape)) + 0.5)  # a quarter of the distance from the first edge
    resized = resize(jnp.asarray(linear[None], jnp.float32), other)
    expected = 0.25 * (np.asarray(identity_grid(other)) + 0.5)
    margin = [int(np.ceil(s)) for s in scale]
    inside = (0, *(slice(m, -m) for m in margin))
    np.testing.assert_allclose(resized[inside], expected[inside[1:]], rtol=1e-4)
    constant = jnp.ones((1, *shape, len(shape)))
    np.testing.assert_allclose(resize(constant, other), np.broadcast_to(scale, (1, *other, len(shape))), rtol=1e-5)


def test_resize_refuses_another_number_of_axes():
    with pytest.raises(ValueError, match="does not fit"):
        resize(jnp.zeros((1, 5, 5, 2)), (5, 5, 5))


# ---- B-spline --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("shape", "bound"), [((28, 28), 0.48), ((16, 16, 16), 0.40)])
def test_bounded_bsplines_do_not_fold(shape, bound):
    """Choi & Lee's bound, on random control points at its limit, the hardest there are."""
    rng = np.random.default_rng(0)
    for spacing in (4, 2, 1):
        counts = control_shape(shape, (spacing,) * len(shape))
        control = bound * spacing * rng.choice([-1.0, 1.0], (20, *counts, len(shape)))
        field = bspline(jnp.asarray(control, jnp.float32), (spacing,) * len(shape), shape)
        assert float(jacobian_determinant(field).min()) > 0


# ---- determinants at every corner of every cell ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 8), (5, 6, 7)])
def test_cell_determinants_of_a_linear_map(shape):
    num_axes = len(shape)
    matrix = np.random.default_rng(3).standard_normal((num_axes, num_axes)) * 0.4
    displacement = np.asarray(identity_grid(shape)) @ matrix.T
    values = cell_jacobian_determinants(jnp.asarray(displacement[None], jnp.float32))
    assert values.shape == (2**num_axes, 1, *(size - 1 for size in shape))
    np.testing.assert_allclose(values, np.linalg.det(np.eye(num_axes) + matrix), rtol=1e-3)


@pytest.mark.parametrize("shape", [(7, 8), (5, 6, 7)])
def test_interior_corners_are_the_cells_corners(shape):
    field = jax.random.normal(jax.random.key(0), (2, *shape, len(shape)))
    cells = np.asarray(cell_jacobian_determinants(field))
    smallest = np.full((2, *(size - 2 for size in shape)), np.inf)
    for index, corner in enumerate(np.ndindex(*(2,) * len(shape))):
        # An interior voxel p is corner c of the cell that starts at p - c.
        start = (slice(None), *(slice(1 - c, size - 1 - c) for c, size in zip(corner, shape, strict=True)))
        smallest = np.minimum(smallest, cells[index][start])
    np.testing.assert_allclose(corner_jacobian_determinant(field), smallest, rtol=1e-4, atol=1e-4)
