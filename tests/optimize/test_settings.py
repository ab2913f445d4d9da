"""Fields and geometries: defaults, checks, equality, the step of a dense field."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from air_jax.errors import OptionError
from air_jax.optimize import FIELDS, BSplineField, DenseField, Geometry, VelocityField
from air_jax.optimize.fields import smoothed_descent


def test_words_of_the_config():
    assert dict(dense=DenseField, control_grid=BSplineField, velocity=VelocityField) == FIELDS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseField(update_sigma=-1), "update_sigma=-1: must be finite and 0 or more"),
        (lambda: DenseField(total_sigma=float("nan")), "total_sigma=nan: must be finite"),
        (lambda: DenseField(levels=()), r"levels=\(\): must not be empty"),
        (lambda: DenseField(levels=(3, 1)), r"levels=\(3, 1\): the factors must be powers of 2"),
        (lambda: BSplineField(levels=()), r"levels=\(\): must not be empty"),
        (lambda: BSplineField(levels=((0, 1),)), r"levels=\(\(0, 1\),\): the factors must be powers of 2"),
        (lambda: BSplineField(levels=((1, 0),)), r"levels=\(\(1, 0\),\): the spacing of control points must be"),
        (lambda: BSplineField(levels=(4, 2)), r"levels=\(4, 2\): must be pairs \(factor, spacing\)"),
        (lambda: BSplineField(learning_rate=0), "learning_rate=0: must be finite and above 0"),
        (lambda: VelocityField(learning_rate=float("inf")), "learning_rate=inf: must be finite"),
        (lambda: VelocityField(integration_steps=-1), "integration_steps=-1: must not be negative"),
        (lambda: Geometry(voxel_size=(1.0, 0.0)), r"voxel_size=\(1.0, 0.0\): must be finite and above 0"),
        (lambda: Geometry(moving_voxel_size=(1.0, float("nan"))), "moving_voxel_size=.*must be finite and above 0"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(OptionError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (DenseField(), DenseField(3, 0.5, [4, 2, 1]), DenseField(total_sigma=0)),
        (BSplineField(), BSplineField([[1, 4], [1, 2], [1, 1]]), VelocityField(((1, 4), (1, 2), (1, 1)))),
        (VelocityField(), VelocityField(integration_steps=4), VelocityField(integration_steps=5)),
    ],
)
def test_fields_are_equal_and_hashed_by_value(one, same, other):
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


def test_geometry_is_a_pytree_with_static_sizes():
    geometry = Geometry(jnp.eye(2, 3)[None], [1, 2])
    doubled = jax.tree.map(lambda matrix: 2 * matrix, geometry)
    np.testing.assert_array_equal(doubled.matrix, 2 * np.eye(2, 3)[None])
    assert doubled.sizes(2) == ((1.0, 2.0), (1.0, 2.0))
    assert Geometry().sizes(3) == ((1.0,) * 3, (1.0,) * 3)
    assert Geometry(moving_voxel_size=(2, 3)).sizes(2) == ((1.0, 1.0), (2.0, 3.0))
    assert jax.tree.leaves(Geometry(voxel_size=(1, 1))) == []


def test_smoothed_descent_agrees_with_scipy():
    """The update is along the smoothed gradient by lengths; the longest of each pair is half the smallest voxel."""
    size = np.array([1.5, 3.0])
    gradient = np.random.default_rng(0).standard_normal((2, 14, 9, 2)).astype(np.float32)
    optimizer = smoothed_descent(size, 2.0)
    update, _ = optimizer.update(jnp.asarray(gradient), optimizer.init(None))
    smooth = gaussian_filter(gradient.astype(np.float64), (0, 2.0, 1.0, 0), mode="nearest", radius=(0, 6, 3, 0))
    lengths = smooth / size  # a step by lengths along the gradient by lengths
    longest = np.linalg.norm(lengths, axis=-1).max(axis=(1, 2), keepdims=True)[..., None]
    np.testing.assert_allclose(np.asarray(update) * size, -0.5 * size.min() * lengths / longest, atol=1e-6)
