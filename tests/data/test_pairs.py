"""Pairs: their draws, their arrays, and their images in [0, 1] with or without an artificial deformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from air_jax.data import Images
from air_jax.data.deformation import Deformation, draw_displacements
from air_jax.data.pairs import Pair, all_pairs, draw_pairs, gather, random_pairs, same_class_pairs, unit_pair


def integer_pair(dtype):
    rng = np.random.default_rng(0)
    images = rng.integers(0, np.iinfo(dtype).max, (2, 3, 16, 18, 1), dtype=dtype, endpoint=True)
    segmentations = rng.integers(0, 4, (2, 3, 16, 18))
    return Pair(*images, *segmentations)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_unit_pair_scales_integers_by_the_range_of_their_type(dtype):
    pair = integer_pair(dtype)
    unit, truth = unit_pair(pair)
    assert truth is None
    for found, given in zip(unit[:2], pair[:2], strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, given / np.float64(np.iinfo(dtype).max), atol=1e-7)
    np.testing.assert_array_equal(unit.fixed_segmentation, pair.fixed_segmentation)
    np.testing.assert_array_equal(unit.moving_segmentation, pair.moving_segmentation)


def test_unit_pair_keeps_floats():
    images = np.random.default_rng(0).random((2, 1, 4, 5, 1), np.float32)
    unit, _ = unit_pair(Pair(*images))
    np.testing.assert_array_equal(np.stack(unit[:2]), images)


def test_unit_pair_deforms_the_moving_image_by_the_true_displacement():
    pair = integer_pair(np.uint8)
    deformation, keys = Deformation(1.0, 6), jax.random.split(jax.random.key(1), 3)
    unit, truth = unit_pair(pair, deformation, keys)
    np.testing.assert_allclose(truth, draw_displacements(keys, (16, 18), deformation), atol=1e-6)
    np.testing.assert_allclose(unit.moving, pair.moving / 255, atol=1e-7)
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(18), indexing="ij"))
    for i in range(3):
        points = grid + np.moveaxis(np.asarray(truth[i]), -1, 0)
        expected = scipy.ndimage.map_coordinates(pair.moving[i, ..., 0] / 255, points, order=1, mode="grid-constant")
        np.testing.assert_allclose(unit.fixed[i, ..., 0], expected, atol=1e-4)
    assert unit.fixed_segmentation is None  # not known
    assert unit.moving_segmentation is None


def test_unit_pair_refuses_a_deformation_without_keys():
    with pytest.raises(ValueError, match="needs keys"):
        unit_pair(integer_pair(np.uint8), Deformation(1.0, 6))


def test_drawn_pairs_are_a_function_of_the_key_and_never_an_image_with_itself():
    fixed, moving = map(np.asarray, draw_pairs(jax.random.key(0), num_images=5, num_pairs=4000))
    again = draw_pairs(jax.random.key(0), num_images=5, num_pairs=4000)
    np.testing.assert_array_equal(fixed, again[0])
    np.testing.assert_array_equal(moving, again[1])
    assert (fixed != moving).all()
    counts = np.zeros((5, 5))
    np.add.at(counts, (fixed, moving), 1)
    assert counts[~np.eye(5, dtype=bool)].min() > 130  # 20 ordered pairs, 200 of each expected


def test_listed_pairs_are_drawn_evenly():
    listed = np.array([[0, 3], [3, 0], [5, 1]])
    fixed, moving = map(np.asarray, draw_pairs(jax.random.key(0), 6, 3000, listed=listed))
    counts = [((fixed == a) & (moving == b)).sum() for a, b in listed]
    assert sum(counts) == 3000
    assert min(counts) > 900


def test_random_pairs_are_a_function_of_the_seed():
    pairs = random_pairs(3, num_images=4, num_pairs=500)
    assert pairs.shape == (500, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert set(np.unique(pairs)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(pairs, random_pairs(3, num_images=4, num_pairs=500))
    assert (pairs != random_pairs(4, num_images=4, num_pairs=500)).any()


def test_same_class_pairs_have_one_class():
    classes = np.array([0, 1, 0, 2, 1, 0])  # only one image has class 2
    pairs = same_class_pairs(0, classes, 200)
    assert (classes[pairs[:, 0]] == classes[pairs[:, 1]]).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert 3 not in pairs
    with pytest.raises(ValueError, match="no class has two images"):
        same_class_pairs(0, np.arange(5), 10)


def test_all_pairs_are_listed_once():
    assert {tuple(pair) for pair in all_pairs(3).tolist()} == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    assert len(all_pairs(5)) == 20


def test_gather_collects_images_and_segmentations():
    images = np.arange(6, dtype=np.uint8)[:, None, None, None]
    pair = gather(Images(images, segmentations=10 + images[..., 0]), np.array([1, 4]), np.array([0, 2]))
    assert [array.ravel().tolist() for array in pair[:4]] == [[1, 4], [0, 2], [11, 14], [10, 12]]
    assert pair.displacement is None
    assert gather(Images(images), np.array([1]), np.array([0])).fixed_segmentation is None


def test_swapped_exchanges_both_sides():
    assert Pair("a", "b", "c", "d").swapped() == Pair("b", "a", "d", "c")
