"""Starts of an affine registration: turns, their translations, and which start is kept."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from air_jax.losses import SIMILARITIES
from air_jax.optimize import affine, register_affine
from air_jax.optimize.affine_parameters import Parameters, to_matrix
from air_jax.optimize.affine_starts import _middle, best_start, best_starts, starts, turns
from air_jax.optimize.visibility import Images

VOXEL_SIZE = (1.0, 0.8, 1.5)


def rotations():
    """The matrices `[60, 3, 3]` of the turns."""
    vectors = np.array(turns(3), np.float32)
    parameters = Parameters(np.zeros_like(vectors), vectors, np.zeros((len(vectors), 3, 3), np.float32))
    return np.asarray(to_matrix(parameters, (5, 5, 5), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)))[..., :3]


def test_any_rotation_is_near_to_one_of_the_turns():
    np.testing.assert_array_equal(turns(3)[0], 0)
    found, others = Rotation.from_matrix(rotations()), Rotation.random(2000, rng=np.random.default_rng(0))
    distances = np.min([(others * turn.inv()).magnitude() for turn in found], axis=0)
    assert np.rad2deg(distances.max()) < 44.5
    angles = np.rad2deg(turns(2))
    assert angles[0] == 0
    assert np.diff(np.sort(angles, axis=0), axis=0, append=180 + 22.5).max() <= 25


def test_a_turned_start_aligns_the_middles():
    """The middle of a block of the fixed image meets that of the moving one, whatever the turn and the voxel sizes."""
    weights, moving_weights = np.zeros((1, 12, 14, 9), np.float32), np.zeros((1, 10, 16, 8), np.float32)
    weights[:, 2:7, 8:11, 1:3], moving_weights[:, 6:9, 1:4, 2:7] = 1, 1
    images = Images(weights[..., None], moving_weights[..., None], weights, moving_weights)
    matrix = jnp.asarray(np.concatenate([np.diag([0.9, 1.1, 1.2]), [[1.0], [-2.0], [0.5]]], axis=1)[None], jnp.float32)
    parameters = starts(images, matrix, VOXEL_SIZE, turns(3))
    maps = np.asarray(to_matrix(parameters, weights.shape[1:], VOXEL_SIZE, (1.0, 1.0, 1.0)), np.float64)
    maps = maps.reshape(60, 3, 3, 4)
    here, there = np.array([4, 9, 1.5]), np.array([7, 2, 4])
    turned = maps[:, 1, :, :3] @ here + maps[:, 1, :, 3]
    whole = turned @ np.asarray(matrix)[0, :, :3].T + np.asarray(matrix)[0, :, 3]
    np.testing.assert_allclose(whole, np.broadcast_to(there, whole.shape), atol=1e-4)
    lengths = maps[:, 1, :, :3] * np.array(VOXEL_SIZE)[:, None] / np.array(VOXEL_SIZE)
    np.testing.assert_allclose(lengths, rotations(), atol=1e-5)


def test_the_first_starts_are_kept_and_preferred():
    values = np.array([[3.0, 2.0, 1.0, 1.9], [3.0, 2.0, 1.85, 9.0]], np.float32)
    numbers = Parameters(*(np.arange(8.0)[:, None] for _ in range(3)))
    assert best_starts(numbers, values, 3, 2).rotation[:, 0].tolist() == [0, 1, 2, 4, 5, 6]
    assert best_starts(numbers, values, 2, 0).rotation[:, 0].tolist() == [2, 3, 6, 5]
    # A tenth better than the best of the first two, or not.
    assert best_start(numbers, values, 2).rotation[:, 0].tolist() == [2, 5]
    assert best_start(numbers, values, 0).rotation[:, 0].tolist() == [2, 6]
    # Losses may be negative.
    assert best_start(numbers, np.array([[-1.0, -1.05], [-1.0, -1.2]]), 1).rotation[:, 0].tolist() == [0, 3]


def test_the_middle_is_that_of_what_counts():
    """So images that are padded at their ends start as without their padding."""
    weights = np.zeros((2, 8, 16), np.float32)
    weights[0, :5, :16] = 1
    weights[1, 3:7, 9] = 0.1
    found = _middle(np.zeros((2, 8, 16, 1)), weights)
    np.testing.assert_array_equal(found, [[2, 7.5], [4.5, 9]])
    np.testing.assert_array_equal(_middle(np.zeros((1, 5, 16, 1)), None), [[2, 7.5]])


@pytest.mark.slow
def test_turned_volumes_are_found_and_a_ball_is_left_alone(monkeypatch):
    """Three volumes in one program: turned by a quarter, turned by 120 degrees about a diagonal, and a ball."""
    monkeypatch.setattr(affine, "LEVELS", affine.LEVELS[:2])
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((24, 24, 24)), 3)
    distance = np.linalg.norm(np.indices(noise.shape) - 11.5, axis=0)
    textured = np.where(distance < 10, 0.5 + 0.2 * noise / noise.std(), 0).clip(0, 1).astype(np.float32)
    ball = np.where(distance < 10, 0.5, 0).astype(np.float32)
    moving = [np.rot90(textured, axes=(0, 2)), textured.transpose(1, 2, 0), ball]
    fixed = np.stack([textured, textured, ball])[..., None]
    matrices = register_affine(
        SIMILARITIES["ncc"],
        jnp.asarray(fixed),
        jnp.asarray(np.stack(moving)[..., None]),
        kind="rigid",
        turned=True,
        weights=jnp.ones(fixed.shape[:-1]),
        moving_weights=jnp.ones(fixed.shape[:-1]),
    )
    # A moving voxel `p[1], p[2], p[0]` shows the fixed voxel `p`; `rot90` maps axis 0 to the end of axis 2.
    expected = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]]), np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]), np.eye(3)
    np.testing.assert_allclose(matrices[..., :3], expected, atol=0.1)
