"""Augmentation: both images of a pair move by one map, within the ranges; checked against SciPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from air_jax.data.augmentation import Augmentation, augment
from air_jax.data.pairs import Pair
from air_jax.errors import OptionError
from air_jax.transforms import identity_grid


def coordinates_pair(shape, count):
    grid = np.broadcast_to(np.asarray(identity_grid(shape)), (count, *shape, len(shape)))
    return Pair(jnp.asarray(grid), jnp.asarray(grid))


def sampled_points(shape, augmentation, count=200):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(augment(keys, coordinates_pair(shape, count), augmentation).fixed)


@pytest.mark.slow
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


def test_translations_fill_their_range():
    points = sampled_points((41, 43), Augmentation(translation=6.0))
    shift = (points - np.asarray(identity_grid((41, 43))))[:, 20, 21]
    assert np.abs(shift).max() <= 6 + 1e-4
    assert shift.max() > 5
    assert shift.min() < -5


def test_rotations_and_scales_keep_the_centre_and_fill_their_range():
    points = sampled_points((41, 41), Augmentation(rotation=30.0, scale=0.2))
    np.testing.assert_allclose(points[:, 20, 20], 20, atol=1e-3)
    step = points[:, 21, 20] - points[:, 20, 20]  # the image of one step down
    size, angle = np.linalg.norm(step, axis=1), np.degrees(np.arctan2(step[:, 1], step[:, 0]))
    assert 0.8 <= size.min() < 0.83
    assert 1.17 < size.max() <= 1.2001
    assert np.abs(angle).max() <= 30.01
    assert angle.max() > 25
    assert angle.min() < -25


@pytest.mark.slow
def test_rotations_of_volumes_are_orthogonal():
    points = sampled_points((21, 21, 21), Augmentation(rotation=40.0), count=20)
    centre = points[:, 10, 10, 10]
    axes = np.stack([points[:, 11, 10, 10], points[:, 10, 11, 10], points[:, 10, 10, 11]], axis=1) - centre[:, None]
    np.testing.assert_allclose(axes @ np.swapaxes(axes, 1, 2), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-3)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-3)


@pytest.mark.slow
def test_elastic_deformations_are_smooth_and_of_the_given_size():
    elastic = Augmentation(elastic=1.5, elastic_spacing=12)
    points = sampled_points((48, 50), elastic)[
        :, 12:-12, 12:-12
    ]  # without points outside of the image, which are clamped to its border
    moved = points - np.asarray(identity_grid((48, 50)))[12:-12, 12:-12]
    np.testing.assert_allclose(np.sqrt((moved**2).mean((0, 1, 2))), 1.5, rtol=0.15)
    assert np.abs(np.diff(moved, axis=1)).max() < 1  # no fold
    assert np.std(moved[:, 0, 0] - moved[:, -1, -1]) > 1.5  # no translation
    assert elastic.moves()
    assert not Augmentation().moves()
    # The elastic part does not change the draw of the affine map.
    both = sampled_points((48, 50), dataclasses.replace(elastic, translation=4.0))[:, 12:-12, 12:-12] - points
    affine = sampled_points((48, 50), Augmentation(translation=4.0))[:, 12:-12, 12:-12]
    shift = affine - np.asarray(identity_grid((48, 50)))[12:-12, 12:-12]
    np.testing.assert_allclose(both, shift, atol=1e-3)


@pytest.mark.slow
def test_images_and_segmentations_move_by_one_map():
    rng = np.random.default_rng(0)
    fixed, moving = rng.random((2, 3, 16, 18, 1), np.float32)
    segmentations = rng.integers(0, 4, (2, 3, 16, 18))
    augmentation = Augmentation(flip=True, rotation=180.0, scale=0.1, translation=2.0, elastic=0.5, elastic_spacing=6)
    keys = jax.random.split(jax.random.key(1), 3)
    out = augment(keys, Pair(fixed, moving, segmentations[0], segmentations[1]), augmentation)
    where = np.asarray(augment(keys, coordinates_pair((16, 18), 3), augmentation).fixed)
    inside = ((where > 0.01) & (where < np.array([14.99, 16.99]))).all(-1)
    assert inside.mean() > 0.3
    for given, found in ((fixed, out.fixed), (moving, out.moving)):
        for i in range(3):
            expected = scipy.ndimage.map_coordinates(given[i, ..., 0], np.moveaxis(where[i], -1, 0), order=1)
            np.testing.assert_allclose(np.asarray(found)[i, ..., 0][inside[i]], expected[inside[i]], atol=1e-3)
    for given, found in ((segmentations[0], out.fixed_segmentation), (segmentations[1], out.moving_segmentation)):
        unsure = np.abs(where - np.floor(where) - 0.5).min(-1) < 1e-2
        sure = inside & ~unsure
        for i in range(3):
            rows, columns = np.round(where[i]).astype(int).clip(0, [15, 17]).reshape(-1, 2).T
            expected = given[i][rows, columns].reshape(16, 18)
            np.testing.assert_array_equal(np.asarray(found)[i][sure[i]], expected[sure[i]])


@pytest.mark.slow
def test_the_default_moves_nothing():
    pair = Pair(*np.random.default_rng(0).random((2, 2, 6, 7, 1), np.float32))
    out = augment(jax.random.split(jax.random.key(0), 2), pair, Augmentation())
    np.testing.assert_array_equal(out.fixed, pair.fixed)
    assert out.fixed_segmentation is None


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"rotation": -1.0}, "rotation"),
        ({"translation": float("nan")}, "translation"),
        ({"scale": 1.0}, "scale"),
        ({"elastic_spacing": 0}, "elastic_spacing"),
        ({"elastic": 2.1, "elastic_spacing": 8}, "elastic"),
    ],
)
def test_values_out_of_range_are_refused(options, option):
    with pytest.raises(OptionError) as error:
        Augmentation(**options)
    assert error.value.option == option
