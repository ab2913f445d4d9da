"""Jacobian determinants, against determinants in NumPy and loops over corners."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.transforms import (
    cell_jacobian_determinants,
    corner_jacobian_determinant,
    identity_grid,
    jacobian_determinant,
)


def random_displacement(shape, scale):
    noise = np.random.default_rng(1).standard_normal((1, *shape, len(shape)))
    return scale * noise.astype(np.float32)


@pytest.mark.parametrize("num_axes", [2, 3])
@pytest.mark.parametrize("function", [jacobian_determinant, corner_jacobian_determinant])
def test_jacobian_of_an_affine_map_is_its_determinant(function, num_axes):
    shape = (6, 7, 8)[:num_axes]
    matrix = np.eye(num_axes) + 0.3 * np.random.default_rng(3).standard_normal((num_axes, num_axes))
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    displacement = (grid @ (matrix - np.eye(num_axes)).T).astype(np.float32)[None]
    determinant = np.asarray(function(jnp.asarray(displacement)))
    assert determinant.shape == (1, *(size - 2 for size in shape))
    np.testing.assert_allclose(determinant, np.linalg.det(matrix), rtol=1e-4)


def test_jacobian_agrees_with_numpy_gradient():
    displacement = random_displacement((7, 8, 9), 0.3)
    derivatives = np.stack([np.stack(np.gradient(displacement[0, ..., n]), axis=-1) for n in range(3)], axis=-2)
    expected = np.linalg.det(derivatives + np.eye(3))[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(np.asarray(jacobian_determinant(displacement))[0], expected, atol=1e-5)


def test_corner_determinant_sees_the_fold_that_central_differences_miss():
    displacement = np.zeros((1, 5, 5, 2), np.float32)
    displacement[0, 2, 2, 0] = 1.5  # only this voxel passes its lower neighbour
    assert np.asarray(jacobian_determinant(displacement))[0, 1, 1] == 1
    # Forward difference along the rows at the voxel: (3 + 0) - (2 + 1.5) = -0.5
    np.testing.assert_allclose(np.asarray(corner_jacobian_determinant(displacement))[0, 1, 1], -0.5)


def test_corner_determinant_agrees_with_a_plain_loop():
    displacement = random_displacement((5, 6, 5), 0.4)
    positions = displacement[0] + np.stack(np.meshgrid(*map(np.arange, (5, 6, 5)), indexing="ij"), axis=-1)
    corner = np.asarray(corner_jacobian_determinant(displacement))[0]
    for index in np.ndindex(corner.shape):
        p = np.array(index) + 1
        determinants = []
        for signs in itertools.product((1, -1), repeat=3):
            columns = [
                s * (positions[tuple(p + s * e)] - positions[tuple(p)])
                for s, e in zip(signs, np.eye(3, dtype=int), strict=True)
            ]
            determinants.append(np.linalg.det(np.stack(columns, axis=1)))
        np.testing.assert_allclose(corner[index], min(determinants), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 5, 5, 3), (5, 5, 2), (1, 5, 2, 2), (1, 5, 1)])
def test_jacobian_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="displacement has shape"):
        jacobian_determinant(np.zeros(shape))


@pytest.mark.parametrize("shape", [(7, 8), (5, 6, 7)])
def test_cell_determinants_of_a_linear_map(shape):
    num_axes = len(shape)
    matrix = np.random.default_rng(3).standard_normal((num_axes, num_axes)) * 0.4
    displacement = np.asarray(identity_grid(shape)) @ matrix.T
    values = cell_jacobian_determinants(jnp.asarray(displacement[None], jnp.float32))
    assert values.shape == (2**num_axes, 1, *(size - 1 for size in shape))
    np.testing.assert_allclose(values, np.linalg.det(np.eye(num_axes) + matrix), rtol=1e-3)


@pytest.mark.parametrize("shape", [(7, 8), (5, 6, 7)])
def test_corner_determinant_is_the_smallest_of_the_cells_around_a_voxel(shape):
    field = jax.random.normal(jax.random.key(0), (2, *shape, len(shape)))
    cells = np.asarray(cell_jacobian_determinants(field))
    smallest = np.full((2, *(size - 2 for size in shape)), np.inf)
    for index, corner in enumerate(np.ndindex(*(2,) * len(shape))):
        # An interior voxel p is corner c of the cell that starts at p - c.
        start = (slice(None), *(slice(1 - c, size - 1 - c) for c, size in zip(corner, shape, strict=True)))
        smallest = np.minimum(smallest, cells[index][start])
    np.testing.assert_allclose(corner_jacobian_determinant(field), smallest, rtol=1e-4, atol=1e-4)
