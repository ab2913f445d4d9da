"""Means of maps: matrices beside SciPy's logarithm, displacements beside SciPy's interpolation. Batches, sharpness."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage

from air_jax.file_templates import rounds
from air_jax.file_templates.maps import centred_affines, centred_fields
from air_jax.file_templates.rounds import sharpness


@pytest.mark.parametrize("num_axes", [2, 3])
def test_the_mean_of_centred_affines_is_the_identity(num_axes):
    rng = np.random.default_rng(num_axes)
    affines = np.eye(num_axes, num_axes + 1) + 0.3 * rng.standard_normal((5, num_axes, num_axes + 1))
    affines[..., -1] *= 100
    centred, change = centred_affines(affines)
    squares = [np.vstack([each, np.eye(num_axes + 1)[-1]]) for each in (*affines, change, *centred)]
    mean = np.mean([scipy.linalg.logm(square) for square in squares[6:]], axis=0)
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    for old, new in zip(squares[:5], squares[6:], strict=True):
        np.testing.assert_allclose(old @ squares[5], new, atol=1e-9)


def test_the_mean_of_scales_is_the_geometric_mean():
    affines = np.stack([np.diag([scale, scale]) @ np.eye(2, 3) for scale in (0.5, 1.0, 4.0)])
    _, change = centred_affines(affines)
    np.testing.assert_allclose(change, np.diag([2 ** (-1 / 3)] * 2) @ np.eye(2, 3), atol=1e-9)


@pytest.mark.parametrize("linear", [np.diag([-1.0, 1.0]), np.diag([0.0, 1.0]), -np.eye(2)])
def test_maps_without_a_real_logarithm_are_refused_by_their_index(linear):
    affines = np.stack([np.eye(2, 3), linear @ np.eye(2, 3)])
    with pytest.raises(ValueError, match=r"^1$"):
        centred_affines(affines)


def test_the_mean_of_centred_fields_is_zero():
    rng = np.random.default_rng(0)
    fields = 30 * scipy.ndimage.gaussian_filter(rng.standard_normal((4, 18, 20, 2)), (0, 3, 3, 0)).astype(np.float32)
    fields += np.array([1.5, -0.7], np.float32)
    centred = centred_fields(fields)
    np.testing.assert_allclose(centred.mean(axis=0), 0, atol=2e-3)
    # Each is composed with one field v: u(p + v(p)) + v(p), interpolated by SciPy.
    grid = np.moveaxis(np.indices((18, 20)), 0, -1).astype(float)
    v = np.zeros((18, 20, 2))
    for _ in range(200):  # the inverse of the mean by fixed-point steps
        at = np.moveaxis(grid + v, -1, 0)
        mean = [
            scipy.ndimage.map_coordinates(each, at, order=1, mode="nearest") for each in fields.mean(0).T.swapaxes(1, 2)
        ]
        v = 0.5 * v - 0.5 * np.moveaxis(mean, 0, -1)
    at = np.moveaxis(grid + v, -1, 0)
    for old, new in zip(fields, centred, strict=True):
        moved = [scipy.ndimage.map_coordinates(old[..., axis], at, order=1, mode="nearest") for axis in range(2)]
        np.testing.assert_allclose(new, v + np.moveaxis(moved, 0, -1), atol=5e-3)


def test_sharpness_falls_where_edges_blur_and_not_with_contrast():
    rng = np.random.default_rng(0)
    image = scipy.ndimage.gaussian_filter(rng.standard_normal((20, 30)), 1)
    blurred = scipy.ndimage.gaussian_filter(image, 1)
    assert sharpness(blurred, np.ones(2)) < 0.8 * sharpness(image, np.ones(2))
    assert sharpness(3 * image + 2, np.ones(2)) == pytest.approx(sharpness(image, np.ones(2)))
    left = np.arange(30) < 12
    where = np.broadcast_to(left, (20, 30))
    gradient = np.gradient(image)
    expected = np.sqrt(np.mean((gradient[0] ** 2 + gradient[1] ** 2)[:, left])) / image[:, left].std()
    assert sharpness(image, np.ones(2), where=where) == pytest.approx(expected)
    ramp = np.tile(np.arange(10.0), (8, 1))  # by hand: slope 1, deviation of 0 to 9
    assert sharpness(ramp, np.array([1.0, 2.0])) == pytest.approx(0.5 / np.std(np.arange(10)))


def test_the_last_batch_is_filled_up_and_the_time_left_is_said(monkeypatch, capsys):
    group = SimpleNamespace(names="abcde", grid=SimpleNamespace(shape=(10, 10)), images=np.zeros((5, 8, 9, 1)))
    monkeypatch.setattr(rounds, "CPU_VOXELS", 250)
    batches = list(rounds._chunks(group, "round 1 of 2", 1))
    assert [(indices.tolist(), count) for indices, count in batches] == [([0, 1], 2), ([2, 3], 2), ([4, 4], 1)]
    assert "round 1 of 2: 5 of 5 images" in (line := capsys.readouterr().out)
    assert "s left of these rounds" in line
    monkeypatch.setattr(rounds, "CPU_VOXELS", 1)
    assert [indices.tolist() for indices, _ in rounds._chunks(group, "", 0)] == [[0], [1], [2], [3], [4]]
