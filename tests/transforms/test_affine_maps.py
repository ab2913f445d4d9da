"""Affine maps of points and changes of grid, against NumPy in 64 bits."""

import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.transforms import apply_affine, between_grids, compose_affine, identity_grid, invert_affine, resize


def square(matrix):
    """`[..., N, N + 1]` with the row 0 ... 0 1 below."""
    matrix = np.asarray(matrix, np.float64)
    last = np.broadcast_to(np.eye(matrix.shape[-1])[-1], (*matrix.shape[:-2], 1, matrix.shape[-1]))
    return np.concatenate([matrix, last], axis=-2)


def matrices(batch, num_axes):
    noise = np.random.default_rng(num_axes).standard_normal((2, batch, num_axes, num_axes + 1))
    noise[..., -1] *= 20
    return (noise * 0.3 + np.eye(num_axes, num_axes + 1)).astype(np.float32)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_affines_agree_with_homogeneous_matrices(num_axes):
    outer, inner = matrices(3, num_axes)
    points = np.random.default_rng(0).uniform(-100, 200, (3, 5, *(4,) * (num_axes - 1), num_axes)).astype(np.float32)
    homogeneous = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1).astype(np.float64)
    expected = np.einsum("bij,b...j->b...i", square(inner), homogeneous)[..., :-1]
    np.testing.assert_allclose(apply_affine(inner, points), expected, atol=2e-4)
    np.testing.assert_allclose(square(compose_affine(outer, inner)), square(outer) @ square(inner), atol=1e-5)
    np.testing.assert_allclose(square(invert_affine(inner)), np.linalg.inv(square(inner)), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        apply_affine(jnp.broadcast_to(jnp.eye(num_axes, num_axes + 1), (3, num_axes, num_axes + 1)), points), points
    )


def test_points_may_have_no_spatial_axes():
    (affine,) = matrices(1, 2)[:1]
    points = np.array([[3.0, -2.0]], np.float32)
    expected = np.einsum("bij,bj->bi", square(affine), [[3.0, -2.0, 1.0]])[:, :-1]
    np.testing.assert_allclose(apply_affine(affine, points), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new"), [((24, 17), (12, 9)), ((9, 14, 10), (18, 14, 3))])
def test_between_grids_keeps_edges_and_agrees_with_resize(old, new):
    matrix = between_grids(old, new)
    # The centre of cell i of the new grid lies at (i + 0.5) / new of the extent.
    index = np.stack(np.meshgrid(*map(np.arange, new), indexing="ij"), axis=-1)
    expected = (index + 0.5) * np.divide(old, new) - 0.5
    points = apply_affine(matrix[None], identity_grid(new)[None])[0]
    np.testing.assert_allclose(points, expected, atol=1e-5)

    # The displacement to one physical point, resized, leads to the same point. The tolerance is for the antialiasing of
    # a ramp with asymmetric samples.
    target = np.array(old) / 3
    there = jnp.asarray(target - np.stack(np.indices(old), axis=-1), jnp.float32)
    resized = np.asarray(resize(there[None], new)[0])
    inner = (slice(2, -2),) * len(new) if min(new) > 4 else (slice(1, -1),) * len(new)
    on_new_grid = np.asarray(apply_affine(invert_affine(matrix)[None], jnp.asarray(target[None, None], jnp.float32)))
    np.testing.assert_allclose((index + resized)[inner], np.broadcast_to(on_new_grid, index.shape)[inner], atol=0.05)
