"""Regularizers against loops in NumPy, and displacements computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.losses import REGULARIZERS
from air_jax.transforms import jacobian_determinant


def reference_diffusion(displacement):
    axes = range(1, displacement.ndim - 1)
    means = [(np.diff(displacement, axis=axis) ** 2).reshape(len(displacement), -1).mean(axis=1) for axis in axes]
    return np.mean(means, axis=0)


def corner_determinants(displacement):
    """Corner by corner, with NumPy's determinants: a list for each field."""
    batch, *shape, num_axes = displacement.shape
    determinants = [[] for _ in range(batch)]
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
                determinants[b].append(value)
    return np.array(determinants)


def reference_folding(displacement):
    return np.maximum(0.05 - corner_determinants(displacement), 0).mean(axis=1)


def reference_volume(displacement):
    return (np.log(np.maximum(corner_determinants(displacement), 0.05)) ** 2).mean(axis=1)


def reference_bending(displacement):
    """Voxel by voxel: the squared Frobenius norm of each component's Hessian."""
    batch, *shape, num_axes = displacement.shape
    units = np.eye(num_axes, dtype=int)
    energies = [[] for _ in range(batch)]
    for voxel in np.ndindex(*(size - 2 for size in shape)):

        def at(step, voxel=voxel):
            return displacement[(slice(None), *(np.array(voxel) + 1 + step))]

        hessian = np.zeros((num_axes, num_axes, batch, num_axes))
        for a, b in np.ndindex(num_axes, num_axes):
            if a == b:
                hessian[a, a] = at(units[a]) - 2 * at(0) + at(-units[a])
            else:
                hessian[a, b] = (
                    at(units[a] + units[b])
                    - at(units[a] - units[b])
                    - at(units[b] - units[a])
                    + at(-units[a] - units[b])
                ) / 4
        for pair, energy in enumerate((hessian**2).sum((0, 1)).mean(-1)):
            energies[pair].append(energy)
    return np.mean(energies, axis=1)


# Independent references in NumPy, float64. An entry of the dict without one fails the test below.
REFERENCES = {
    "diffusion": reference_diffusion,
    "folding": reference_folding,
    "bending": reference_bending,
    "volume": reference_volume,
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_entry_has_a_reference(name):
    assert name in REFERENCES, f"give {name!r} an independent reference in this file"


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
    # Along the rows one of two components changes by 0.5: mean square 0.125. Along the columns nothing changes.
    np.testing.assert_allclose(REGULARIZERS["diffusion"](jnp.asarray(displacement)), 0.0625)


def test_bending_of_a_quadratic_field_by_hand():
    rows, columns = np.meshgrid(np.arange(5.0), np.arange(6.0), indexing="ij")
    displacement = np.zeros((1, 5, 6, 2), np.float32)
    displacement[0, ..., 0] = 0.5 * rows**2 + 0.25 * rows * columns
    # Second derivatives of one of two components: 1 along the rows, 0.25 mixed, counted twice: (1 + 2 / 16) / 2.
    np.testing.assert_allclose(REGULARIZERS["bending"](jnp.asarray(displacement)), 0.5625)


def test_bending_of_an_affine_field_is_zero():
    points = np.stack(np.meshgrid(*(np.arange(size) for size in (4, 5, 6)), indexing="ij"), axis=-1)
    matrix = np.random.default_rng(0).standard_normal((3, 3))
    displacement = jnp.asarray((points @ matrix + 1.0)[None], jnp.float32)
    np.testing.assert_allclose(REGULARIZERS["bending"](displacement), 0, atol=1e-10)
    with pytest.raises(ValueError, match="at least 3 voxels"):
        REGULARIZERS["bending"](displacement[:, :2])


def test_folding_sees_a_fold_of_one_voxel_that_central_differences_miss():
    displacement = np.zeros((1, 9, 9, 2), np.float32)
    displacement[0, 4, 4, 0] = 1.2  # passes its neighbour
    assert float(jacobian_determinant(jnp.asarray(displacement)).min()) > 0
    assert float(REGULARIZERS["folding"](jnp.asarray(displacement))[0]) > 0
    assert float(REGULARIZERS["folding"](jnp.asarray(0.5 * displacement))[0]) == 0


def test_gradient_of_the_folding_loss_unfolds():
    displacement = jnp.zeros((1, 9, 9, 2)).at[0, 4, 4, 0].set(1.2)
    gradient = jax.grad(lambda field: REGULARIZERS["folding"](field).sum())(displacement)
    assert float(gradient[0, 4, 4, 0]) > 0


def test_volume_costs_alike_halved_and_doubled_and_is_finite_where_it_folds():
    points = np.stack(np.meshgrid(np.arange(6.0), np.arange(7.0), indexing="ij"), axis=-1)
    scaled = jnp.asarray([[[[factor - 1, 0.0]]] * points for factor in (0.5, 1.0, 2.0)])
    np.testing.assert_allclose(REGULARIZERS["volume"](scaled), np.log(2) ** 2 * np.array([1, 0, 1]), rtol=1e-6)
    turned = points @ np.array([[0.0, 1.0], [-1.0, 0.0]]) - points  # by 90 degrees
    np.testing.assert_allclose(REGULARIZERS["volume"](jnp.asarray(turned[None])), 0, atol=1e-12)
    folded = jnp.asarray(points[None] * -3)
    gradient = jax.grad(lambda field: REGULARIZERS["volume"](field).sum())
    assert np.isfinite(gradient(folded)).all()
    assert np.abs(gradient(scaled[:1])).max() > 0


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("shape", [(5, 6, 2), (1, 5, 6, 3), (1, 5, 6, 7)])
def test_other_shapes_are_refused(name, shape):
    with pytest.raises(ValueError, match="displacement has shape"):
        REGULARIZERS[name](jnp.zeros(shape))
