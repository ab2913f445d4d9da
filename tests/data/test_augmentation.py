"""Pairs moved about: both images alike, as far as asked for, checked against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from air_jax.data.augmentation import Augmentation, augment
from air_jax.data.pairs import Pair
from air_jax.transforms import identity_grid


def coordinates_pair(shape, count):
    grid = np.broadcast_to(np.asarray(identity_grid(shape)), (count, *shape, len(shape)))
    return Pair(jnp.asarray(grid), jnp.asarray(grid))


def sampled_points(shape, augmentation, count=200):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(augment(keys, coordinates_pair(shape, count), augmentation).fixed)


@pytest.mark.parametrize("shape", [(9, 12), (7, 8, 9)])
def test_flips_mirror_each_axis_half_of_the_time(shape):
    points = sampled_points(shape, Augmentation(flip=True))
    grid = np.asarray(identity_grid(shape))
    last = np.array(shape) - 1.0
    for axis in range(len(shape)):
        kept = np.abs(points[..., axis] - grid[..., axis]).reshape(len(points), -1).max(1) < 1e-4
        mirrored = np.abs(points[..., axis] - (last - grid)[..., axis]).reshape(len(points), -1).max(1) < 1e-4
        assert (kept ^ mirrored).all()
        assert 70 < kept.sum() < 130


def test_translations_reach_as_far_as_asked_for():
    points = sampled_points((41, 43), Augmentation(translation=6.0))
    shift = (points - np.asarray(identity_grid((41, 43))))[:, 20, 21]
    assert np.abs(shift).max() <= 6 + 1e-4
    assert shift.max() > 5
    assert shift.min() < -5


def test_rotations_and_sizes_are_about_the_centre():
    points = sampled_points((41, 41), Augmentation(rotation=30.0, scale=0.2))
    np.testing.assert_allclose(points[:, 20, 20], 20, atol=1e-3)
    step = points[:, 21, 20] - points[:, 20, 20]  # where one row further leads
    size, angle = np.linalg.norm(step, axis=1), np.degrees(np.arctan2(step[:, 1], step[:, 0]))
    assert 0.8 <= size.min() < 0.83
    assert 1.17 < size.max() <= 1.2001
    assert np.abs(angle).max() <= 30.01
    assert angle.max() > 25
    assert angle.min() < -25


def test_rotations_of_volumes_are_rotations():
    points = sampled_points((21, 21, 21), Augmentation(rotation=40.0), count=20)
    centre = points[:, 10, 10, 10]
    axes = np.stack([points[:, 11, 10, 10], points[:, 10, 11, 10], points[:, 10, 10, 11]], axis=1) - centre[:, None]
    np.testing.assert_allclose(axes @ np.swapaxes(axes, 1, 2), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-3)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-3)


def test_elastic_deformations_are_smooth_and_as_large_as_asked_for():
    elastic = Augmentation(elastic=1.5, elastic_spacing=12)
    points = sampled_points((48, 50), elastic)[:, 12:-12, 12:-12]  # places outside of the image lie at its border
    moved = points - np.asarray(identity_grid((48, 50)))[12:-12, 12:-12]
    np.testing.assert_allclose(np.sqrt((moved**2).mean((0, 1, 2))), 1.5, rtol=0.15)
    assert np.abs(np.diff(moved, axis=1)).max() < 1  # none folds
    assert np.std(moved[:, 0, 0] - moved[:, -1, -1]) > 1.5  # each place goes its own way
    assert elastic.moves()
    assert not Augmentation().moves()
    # Apart from the affine map's draw.
    both = sampled_points((48, 50), elastic._replace(translation=4.0))[:, 12:-12, 12:-12] - points
    alone = sampled_points((48, 50), Augmentation(translation=4.0))[:, 12:-12, 12:-12]
    shift = alone - np.asarray(identity_grid((48, 50)))[12:-12, 12:-12]
    np.testing.assert_allclose(both, shift, atol=1e-3)


def test_images_and_segmentations_are_moved_alike():
    rng = np.random.default_rng(0)
    fixed, moving = rng.random((2, 3, 16, 18, 1), np.float32)
    labels = rng.integers(0, 4, (2, 3, 16, 18))
    asked = Augmentation(flip=True, rotation=180.0, scale=0.1, translation=2.0, elastic=0.5, elastic_spacing=6)
    keys = jax.random.split(jax.random.key(1), 3)
    out = augment(keys, Pair(fixed, moving, labels[0], labels[1]), asked)
    where = np.asarray(augment(keys, coordinates_pair((16, 18), 3), asked).fixed)
    inside = ((where > 0.01) & (where < np.array([14.99, 16.99]))).all(-1)
    assert inside.mean() > 0.3
    for given, found in ((fixed, out.fixed), (moving, out.moving)):
        for i in range(3):
            expected = scipy.ndimage.map_coordinates(given[i, ..., 0], np.moveaxis(where[i], -1, 0), order=1)
            np.testing.assert_allclose(np.asarray(found)[i, ..., 0][inside[i]], expected[inside[i]], atol=1e-3)
    for given, found in ((labels[0], out.fixed_segmentation), (labels[1], out.moving_segmentation)):
        unsure = np.abs(where - np.floor(where) - 0.5).min(-1) < 1e-2
        sure = inside & ~unsure
        for i in range(3):
            rows, columns = np.round(where[i]).astype(int).clip(0, [15, 17]).reshape(-1, 2).T
            expected = given[i][rows, columns].reshape(16, 18)
            np.testing.assert_array_equal(np.asarray(found)[i][sure[i]], expected[sure[i]])


def test_nothing_asked_for_is_nothing_done():
    pair = Pair(*np.random.default_rng(0).random((2, 2, 6, 7, 1), np.float32))
    out = augment(jax.random.split(jax.random.key(0), 2), pair, Augmentation())
    np.testing.assert_array_equal(out.fixed, pair.fixed)
    assert out.fixed_segmentation is None
