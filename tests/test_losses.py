import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.losses import REGULARIZERS, SIMILARITIES, make_objective
from air_jax.transforms import jacobian_determinant


def reference_mse(fixed, warped):
    return ((warped - fixed) ** 2).reshape(len(fixed), -1).mean(axis=1)


def reference_diffusion(displacement):
    axes = range(1, displacement.ndim - 1)
    means = [(np.diff(displacement, axis=axis) ** 2).reshape(len(displacement), -1).mean(axis=1) for axis in axes]
    return np.mean(means, axis=0)


def reference_folding(displacement):
    """Corner by corner, with NumPy's determinants."""
    batch, *shape, num_axes = displacement.shape
    lacking = [[] for _ in range(batch)]
    for cell in np.ndindex(*(size - 1 for size in shape)):
        for corner in np.ndindex(*(2,) * num_axes):
            columns = []
            for axis in range(num_axes):
                start = [c + k for c, k in zip(cell, corner, strict=True)]
                start[axis] = cell[axis]
                end = list(start)
                end[axis] += 1
                unit = np.eye(num_axes)[axis]
                columns.append(displacement[(slice(None), *end)] - displacement[(slice(None), *start)] + unit)
            for b, value in enumerate(np.linalg.det(np.stack(columns, axis=-1))):
                lacking[b].append(max(0.05 - value, 0))
    return np.mean(lacking, axis=1)


# Independent references in NumPy, float64. An entry of the dicts without one fails the tests below.
REFERENCES = {"mse": reference_mse, "diffusion": reference_diffusion, "folding": reference_folding}


def images(shape=(6, 7), batch=3):
    return np.random.default_rng(0).random((2, batch, *shape, 2))


@pytest.mark.parametrize("name", [*SIMILARITIES, *REGULARIZERS])
def test_every_entry_has_a_reference(name):
    assert name in REFERENCES, f"give {name!r} an independent reference in this file"


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_similarities_agree_with_their_references(name, shape):
    fixed, warped = images(shape)
    values = SIMILARITIES[name](jnp.asarray(fixed), jnp.asarray(warped))
    assert values.shape == (3,)
    np.testing.assert_allclose(values, REFERENCES[name](fixed, warped), rtol=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_have_finite_gradients_on_constant_images(name):
    constant = jnp.zeros((1, 6, 7, 1))
    gradient = jax.grad(lambda warped: SIMILARITIES[name](constant, warped).sum())(constant)
    assert np.isfinite(np.asarray(gradient)).all()


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_regularizers_agree_with_their_references(name, shape):
    displacement = np.random.default_rng(1).standard_normal((3, *shape, len(shape)))
    values = REGULARIZERS[name](jnp.asarray(displacement))
    assert values.shape == (3,)
    np.testing.assert_allclose(values, REFERENCES[name](displacement), rtol=1e-5)


def test_diffusion_of_a_shear_by_hand():
    displacement = np.zeros((1, 4, 4, 2), np.float32)
    displacement[0, ..., 1] = 0.5 * np.arange(4)[:, None]  # columns move by half the row's index
    # Rows: one of two components changes by 0.5, so the mean square is 0.125; columns: nothing; mean over the two axes.
    np.testing.assert_allclose(REGULARIZERS["diffusion"](jnp.asarray(displacement)), 0.0625)


def test_objective_adds_weighted_terms_and_reports_them_unweighted():
    fixed, warped = map(jnp.asarray, images())
    displacement = jnp.asarray(np.random.default_rng(1).standard_normal((3, 6, 7, 2)))
    loss, terms = make_objective("mse", diffusion=0.5)(fixed, warped, displacement)
    assert set(terms) == {"mse", "diffusion"}
    np.testing.assert_allclose(loss, terms["mse"] + 0.5 * terms["diffusion"], rtol=1e-6)
    loss, terms = make_objective("mse", diffusion=0.0)(fixed, warped, displacement)
    assert set(terms) == {"mse"}
    np.testing.assert_array_equal(loss, terms["mse"])


def test_folding_sees_a_fold_of_one_voxel_that_central_differences_miss():
    displacement = np.zeros((1, 9, 9, 2), np.float32)
    displacement[0, 4, 4, 0] = 1.2  # beyond its neighbour
    assert float(jacobian_determinant(jnp.asarray(displacement)).min()) > 0
    assert float(REGULARIZERS["folding"](jnp.asarray(displacement))[0]) > 0
    assert float(REGULARIZERS["folding"](jnp.asarray(0.5 * displacement))[0]) == 0


def test_folding_penalty_has_a_gradient_that_unfolds():
    displacement = jnp.zeros((1, 9, 9, 2)).at[0, 4, 4, 0].set(1.2)
    gradient = jax.grad(lambda field: REGULARIZERS["folding"](field).sum())(displacement)
    assert float(gradient[0, 4, 4, 0]) > 0
