"""The inverse of a displacement, against roots in NumPy, SciPy, SimpleITK and analytic maps, with folds and without."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import gaussian_filter, map_coordinates

from air_jax.transforms import compose, corner_jacobian_determinant, exponential, identity_grid, inverse

SHAPES = [(20, 23), (14, 12, 15)]


def smooth_displacement(shape, amplitude, batch=2):
    """Smooth noise with a largest component of `amplitude` voxels."""
    noise = np.random.default_rng(0).standard_normal((batch, *shape, len(shape)))
    smoothed = gaussian_filter(noise, (0, *(2.5,) * len(shape), 0))
    return jnp.asarray(amplitude * smoothed / np.abs(smoothed).max(), jnp.float32)


def interior(field, margin):
    return np.asarray(field)[(slice(None), *(slice(margin, -margin),) * (field.ndim - 2))]


def scipy_residual(displacement, inverted):
    """Length of `v(p) + u(p + v(p))` of one pair, `[*S, N]` each, in float64."""
    points = np.moveaxis(np.stack(np.indices(inverted.shape[:-1]), axis=-1) + inverted.astype(np.float64), -1, 0)
    sampled = [
        map_coordinates(component, points, order=1, mode="nearest") for component in np.moveaxis(displacement, -1, 0)
    ]
    return np.linalg.norm(inverted + np.stack(sampled, axis=-1), axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_composition_with_the_inverse_is_the_identity(shape):
    displacement = exponential(smooth_displacement(shape, 3.0))
    assert np.abs(displacement).max() > 2
    inverted, residual = inverse(displacement)
    assert residual.shape == displacement.shape[:-1]
    assert float(residual.max()) < 1e-3
    for pair in range(2):
        expected = scipy_residual(np.asarray(displacement)[pair], np.asarray(inverted)[pair])
        np.testing.assert_allclose(residual[pair], expected, atol=1e-5)
    assert np.abs(interior(compose(inverted, displacement), 5)).max() < 0.1  # interpolates the inverse


def test_inverse_of_a_map_that_stretches_too_much_for_fixed_point_steps():
    """Stretched by 3.5, full steps diverge; by 7, half steps diverge also."""
    row = np.asarray(identity_grid((30, 30)))[..., 0]
    displacement = np.zeros((2, 30, 30, 2), np.float32)
    for pair, stretch in enumerate((3.5, 7.0)):
        displacement[pair, ..., 0] = (stretch - 1) * (row - 14.5)  # p + u(p) = 14.5 + stretch * (p - 14.5)
    inverted, residual = inverse(jnp.asarray(displacement))
    for pair, stretch in enumerate((3.5, 7.0)):
        np.testing.assert_allclose(inverted[pair, ..., 0], (row - 14.5) / stretch - (row - 14.5), atol=1e-3)
    assert float(residual.max()) < 1e-2


def test_inverse_agrees_with_simpleitk():
    displacement = np.asarray(exponential(smooth_displacement((30, 33), 2.5, batch=1)))
    image = SimpleITK.GetImageFromArray(displacement[0, ..., ::-1].astype(np.float64), isVector=True)
    reference = SimpleITK.GetArrayFromImage(
        SimpleITK.InvertDisplacementField(image, maximumNumberOfIterations=100, maxErrorToleranceThreshold=1e-4)
    )[..., ::-1]
    inverted, _ = inverse(jnp.asarray(displacement))
    # Away from the border, where ITK keeps the inverse at zero.
    np.testing.assert_allclose(interior(inverted, 7)[0], interior(reference[None], 7)[0], atol=0.02)


def preimages(positions, target):
    """All `x` at which the piecewise linear map with these values at 0, 1, ..., continued with slope 1, is `target`."""
    last = len(positions) - 1
    found = [target - positions[0]] if target < positions[0] else []
    found += [last + target - positions[last]] if target > positions[last] else []
    for start, (low, high) in enumerate(itertools.pairwise(positions)):
        if min(low, high) <= target < max(low, high):
            found.append(start + (target - low) / (high - low))
    if target == positions[last]:
        found.append(last)
    return np.array(found)


def test_inverse_of_a_harmonic_field_with_folds_and_without():
    """`u = a sin(k x)` along the rows. `a k` grows with the column from 0.5 to 2, and the map folds above 1.

    Each column is a map of one axis, whose inverses are the roots of a piecewise linear function.
    """
    shape, k = (48, 21), 1 / 6
    slopes = np.linspace(0.5, 2.0, shape[1])
    displacement = np.zeros((1, *shape, 2), np.float32)
    displacement[0, ..., 0] = slopes / k * np.sin(k * np.arange(shape[0]) + 0.4)[:, None]
    inverted, residual = (np.asarray(array)[0] for array in inverse(jnp.asarray(displacement)))
    np.testing.assert_array_equal(inverted[..., 1], 0)
    unique = np.zeros(shape, bool)
    for row, column in np.ndindex(shape):
        positions = np.arange(shape[0]) + displacement[0, :, column, 0].astype(np.float64)
        roots = preimages(positions, row)
        unique[row, column] = len(roots) == 1
        error = np.abs(row + inverted[row, column, 0] - roots).min()
        assert error < (1e-2 if unique[row, column] else 0.3), (row, column, roots)
    assert unique[:, slopes < 1].all()
    assert 0.3 < unique[:, slopes > 1.5].mean() < 0.9
    assert residual[unique].max() < 1e-3
    assert np.quantile(residual[~unique], 0.99) < 0.05
    # Both orders compose to the identity only where nothing folds.
    other = np.abs(np.asarray(compose(jnp.asarray(inverted[None]), jnp.asarray(displacement))))[0, 6:-6]
    assert other[:, slopes < 0.8].max() < 0.2
    assert other[:, slopes > 1.2].max() > 3


def test_inverse_of_a_harmonic_field_in_polar_coordinates():
    """`p -> p / (1 + b cos(m theta))` (Chen et al. 2008, section 4). Its centre, where the angle jumps, folds."""
    size, b, m = 41, 0.2, 8
    from_centre = np.stack(np.indices((size, size)), axis=-1) - size // 2
    factor = 1 + b * np.cos(m * np.arctan2(from_centre[..., 0], from_centre[..., 1]))
    displacement = jnp.asarray((from_centre * (1 / factor - 1)[..., None])[None], jnp.float32)
    assert float(corner_jacobian_determinant(displacement).min()) < 0
    inverted, residual = (np.asarray(array)[0] for array in inverse(displacement))
    assert residual.max() < 1e-3
    np.testing.assert_allclose(residual, scipy_residual(np.asarray(displacement)[0], inverted), atol=1e-5)
    # The analytic inverse, where interpolation of the field is close to the field, inside the image.
    radius = np.linalg.norm(from_centre, axis=-1)
    compared = (radius > 12) & (radius < 15)
    np.testing.assert_allclose(inverted[compared], (from_centre * (factor - 1)[..., None])[compared], atol=0.15)


@pytest.mark.slow
def test_inverse_in_two_and_three_dimensions_beside_folds():
    """Products of sines that fold in one half of the image. The damped fixed point of every voxel converges."""
    for shape in ((40, 30), (20, 18, 16)):
        points = np.stack(np.indices(shape), axis=-1)
        strength = np.where(points[..., 0] < shape[0] // 2, 0.5, 2.0)
        waves = np.sin(points / 4) * np.cos(np.roll(points, 1, axis=-1) / 4)
        displacement = (4 * strength[..., None] * waves / len(shape) ** 0.5)[None].astype(np.float32)
        folded = np.asarray(corner_jacobian_determinant(jnp.asarray(displacement)))[0] <= 0
        assert 0.01 < folded[shape[0] // 2 :].mean() < 0.5
        inverted, residual = (np.asarray(array)[0] for array in inverse(jnp.asarray(displacement)))
        np.testing.assert_allclose(residual, scipy_residual(displacement[0], inverted), atol=1e-5)
        assert residual[: shape[0] // 2 - 6].max() < 1e-3
        assert (residual > 0.01).mean() < 0.01
        assert residual.max() < 0.5


@pytest.mark.parametrize("shape", [(5, 6, 2), (1, 5, 6, 3), (1, 5, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="inverse: displacement has shape"):
        inverse(jnp.zeros(shape))


@pytest.mark.slow
def test_with_a_tolerance_it_ends_early_and_as_close_as_that():
    shape = (24, 20)
    waves = np.sin(np.arange(24) / 4)[:, None] * np.cos(np.arange(20) / 5)[None]
    displacement = jnp.asarray(np.stack([1.5 * waves, -waves], axis=-1), jnp.float32)[None]
    exact, _ = inverse(displacement)
    close, residual = inverse(displacement, tolerance=1e-2)
    assert residual.shape == (1, *shape)
    assert 1e-5 < residual.max() < 1e-2
    np.testing.assert_allclose(close, exact, atol=2e-2)


def test_with_a_tolerance_the_last_voxels_go_on_alone():
    """Two volumes: a smooth one, and one with a narrow bump in which some voxels need many more iterations."""
    points = np.stack(np.indices((14, 12, 15)), axis=-1)
    smooth = np.sin(points / 4) * np.cos(np.roll(points, 1, axis=-1) / 4)
    bump = 2.5 * np.exp(-np.sum((points - [7, 6, 7]) ** 2, axis=-1) / 3)[..., None] * [1, -1, 0.5]
    displacement = np.stack([smooth, smooth + bump]).astype(np.float32)
    inverted, residual = inverse(jnp.asarray(displacement), tolerance=1e-3)
    for pair in range(2):
        expected = scipy_residual(displacement[pair], np.asarray(inverted)[pair])
        np.testing.assert_allclose(residual[pair], expected, atol=1e-5)
    assert np.max(residual[0]) < 1e-3
    assert np.mean(residual[1] > 1e-3) < 0.002  # all but few of the voxels beside the fold
