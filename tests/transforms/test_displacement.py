"""Displacement algebra, against SciPy and analytic displacements."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from air_jax import warp
from air_jax.transforms import (
    bspline,
    compose,
    control_shape,
    corner_jacobian_determinant,
    exponential,
    identity_grid,
    resize,
    transform_points,
)

SHAPES = [(20, 23), (14, 12, 15)]


def smooth(shape, amplitude=1.0, batch=2, seed=0):
    """A random smooth displacement: a B-spline with control points 5 voxels apart."""
    spacing = (5,) * len(shape)
    control = np.random.default_rng(seed).standard_normal((batch, *control_shape(shape, spacing), len(shape)))
    return amplitude * bspline(jnp.asarray(control, jnp.float32), spacing, shape)


def interior(field, margin=3):
    return np.asarray(field)[(slice(None), *(slice(margin, -margin),) * (field.ndim - 2))]


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
    """On a linear image, which interpolation does not blur, and away from the border."""
    image = np.asarray(identity_grid(shape)).sum(axis=-1)[None, ..., None].repeat(2, axis=0)
    first, second = smooth(shape, 0.5, seed=1), smooth(shape, 0.5, seed=2)
    once = warp(image, compose(first, second))
    twice = warp(warp(image, first), second)
    # The second warp of `twice` interpolates the first warped image, `compose` interpolates `first`: the same here.
    np.testing.assert_allclose(interior(once), interior(twice), atol=1e-4)


def test_translations_add_also_at_the_border():
    first, second = (jnp.broadcast_to(jnp.asarray(t), (1, 6, 7, 2)) for t in ([1.5, -2.0], [3.0, 0.25]))
    np.testing.assert_allclose(compose(first, second), jnp.broadcast_to(jnp.asarray([4.5, -1.75]), (1, 6, 7, 2)))


def test_compose_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"first has shape \(1, 5, 5, 2\) and second has shape \(1, 5, 6, 2\)"):
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
def test_exponential_of_the_negative_velocity_is_the_inverse(shape):
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
    """Zeros beyond the border would leak inward and change a flow along the border."""
    velocity = jnp.zeros((1, 12, 12, 2)).at[..., 1].set(5.0)
    np.testing.assert_allclose(exponential(velocity)[..., 1], 5.0, rtol=1e-5)


def test_negative_integration_steps_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        exponential(jnp.zeros((1, 5, 5, 2)), integration_steps=-1)


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


# ---- transform_points ------------------------------------------------------------------------------------------------


def test_points_are_where_the_sampler_reads():
    """A bright voxel of the warped image comes from the voxel to which its landmark moves."""
    moving = np.zeros((1, 8, 9, 1), np.float32)
    moving[0, 5, 3] = 1
    displacement = np.zeros((1, 8, 9, 2), np.float32) + np.float32([3, -2])
    fixed_point = np.argwhere(np.asarray(warp(moving, displacement))[0, ..., 0] == 1)
    np.testing.assert_array_equal(transform_points(displacement[0], fixed_point), [[5, 3]])


@pytest.mark.parametrize("num_points", [20, 0])
def test_points_agree_with_scipy_also_outside_the_image(num_points):
    rng = np.random.default_rng(0)
    displacement = rng.standard_normal((5, 6, 7, 3)).astype(np.float32)
    points = rng.uniform(-2, 8, (num_points, 3))
    moved = [map_coordinates(displacement[..., n], points.T, order=1, mode="nearest") for n in range(3)]
    np.testing.assert_allclose(transform_points(displacement, points), points + np.stack(moved, -1), atol=1e-5)


def test_points_keep_their_digits_far_along_an_axis():
    displacement = jnp.zeros((100_000, 3, 2)).at[..., 0].set(0.25)
    np.testing.assert_array_equal(transform_points(displacement, np.array([[99_000.5, 1.75]])), [[99_000.75, 1.75]])


def test_points_of_another_number_of_axes_are_refused():
    message = r"displacement has shape \(5, 6, 2\) and points has shape \(4, 3\)"
    with pytest.raises(ValueError, match=message):
        transform_points(np.zeros((5, 6, 2)), np.zeros((4, 3)))
