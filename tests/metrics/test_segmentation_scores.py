"""Overlap and surface distance of segmentations, and errors of landmarks."""

import jax
import numpy as np
import pytest
import scipy.ndimage
import SimpleITK
from scipy.spatial.distance import cdist

from air_jax import metrics
from air_jax.transforms import transform_points


def blobs(shape, num_labels, seed):
    """Integers 0 to `num_labels` in patches of a few voxels."""
    noise = np.random.default_rng(seed).standard_normal((num_labels + 1, *shape))
    return np.argmax([scipy.ndimage.gaussian_filter(channel, 1.5) for channel in noise], axis=0)


def test_label_dice_by_hand():
    fixed = np.zeros((2, 4, 4), np.int32)
    warped = np.zeros((2, 4, 4), np.int32)
    fixed[0, :2], warped[0, 1:3] = 7, 7  # 8 pixels each, 4 in common
    fixed[0, 3], warped[0, 3, :2] = 2, 2  # 4 and 2 pixels, 2 in common
    fixed[1, 0] = 7  # only one side has it
    dice = metrics.label_dice(fixed, warped, [2, 7, 300])
    np.testing.assert_allclose(dice, [[4 / 6, 0.5, np.nan], [np.nan, 0, np.nan]], rtol=1e-6)
    np.testing.assert_allclose(metrics.label_mean(dice), [(4 / 6 + 0.5) / 2, 0], rtol=1e-6)
    assert np.isnan(metrics.label_mean(dice[1:, ::2]))


def test_label_dice_of_bytes_with_a_label_id_beyond_them():
    """A label id that does not fit the dtype of the segmentation is missing; it does not wrap around to another."""
    image = np.full((1, 3, 3), 44, np.uint8)  # 300 - 256
    np.testing.assert_array_equal(metrics.label_dice(image, image, [44, 300]), [[1, np.nan]])


@pytest.mark.parametrize("shape", [(13, 15), (9, 10, 11)])
def test_label_dice_agrees_with_simpleitk(shape):
    fixed, warped = (np.stack([blobs(shape, 4, seed) for seed in seeds]).astype(np.uint8) for seeds in ((0, 1), (2, 3)))
    dice = jax.jit(lambda a, b: metrics.label_dice(a, b, (1, 2, 3, 4)))(fixed, warped)
    for pair in range(2):
        overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
        overlap.Execute(*(SimpleITK.GetImageFromArray(image[pair]) for image in (fixed, warped)))
        np.testing.assert_allclose(dice[pair], [overlap.GetDiceCoefficient(k) for k in (1, 2, 3, 4)], rtol=1e-6)


def test_the_background_is_refused_as_a_label_id():
    image = np.ones((1, 3, 3), np.int32)
    with pytest.raises(ValueError, match="background"):
        metrics.label_dice(image, image, [0, 1])
    with pytest.raises(ValueError, match="background"):
        metrics.label_hd95(image[0], image[0], range(3), (1, 1))


def test_segmentations_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shape"):
        metrics.label_dice(np.ones((1, 3, 3), int), np.ones((1, 3, 4), int), [1])
    with pytest.raises(ValueError, match="shape"):
        metrics.hd95(np.ones((3, 3), bool), np.ones((3, 4), bool), (1, 1))
    with pytest.raises(ValueError, match="spacing"):
        metrics.label_hd95(np.ones((3, 3), int), np.ones((3, 3), int), [1], (1, 1, 1))


@pytest.mark.parametrize("shape", [(9,), (1, 4, 5, 6)])
def test_hd95_refuses_other_numbers_of_axes(shape):
    mask = np.ones(shape, bool)
    with pytest.raises(ValueError, match="hd95: fixed has shape"):
        metrics.hd95(mask, mask, (1,) * len(shape))
    with pytest.raises(ValueError, match="label_hd95: fixed has shape"):
        metrics.label_hd95(mask.astype(int), mask.astype(int), [1], (1,) * len(shape))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_two_cubes_is_their_distance(axis):
    spacing = (0.5, 2, 3)
    fixed, warped = np.zeros((2, 20, 20, 20), bool)
    fixed[2:5, 2:5, 2:5] = True
    shift = np.eye(3, dtype=int)[axis] * 9
    warped[tuple(slice(2 + s, 5 + s) for s in shift)] = True
    # The distance from the far face is 9 voxels, from the near face 7. More than 5 % of the voxels are on the far face.
    assert metrics.hd95(fixed, warped, spacing) == pytest.approx(9 * spacing[axis])
    assert metrics.hd95(fixed, fixed, spacing) == 0


def test_hd95_is_the_larger_direction_and_leaves_five_percent_out():
    fixed, warped = np.zeros((2, 3, 101), bool)
    fixed[1], warped[1] = True, True
    warped[1, :10] = False  # 10 of 101 pixels of `fixed` are 1 to 10 away, and all of `warped` is 0 away
    # The 95th percentile of 101 distances is the 96th in order, and the 6 largest are 5 to 10.
    assert metrics.hd95(fixed, warped, (1, 1)) == metrics.hd95(warped, fixed, (1, 1)) == 5


def brute_force(fixed, warped, spacing):
    """The definition, with all distances. Surface voxels share a face with the background."""
    points = []
    for mask in (fixed, warped):
        padded = np.pad(mask, 1)
        neighbours = [np.roll(padded, step, axis) for axis in range(mask.ndim) for step in (-1, 1)]
        points.append(np.argwhere(padded & ~np.all(neighbours, axis=0)) * np.array(spacing))
    distances = cdist(*points)
    return max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))


@pytest.mark.parametrize(("shape", "spacing"), [((24, 31), (1.5, 0.7)), ((14, 15, 16), (1, 2.5, 0.8))])
def test_hd95_agrees_with_all_distances(shape, spacing):
    fixed, warped = (blobs(shape, 3, seed) for seed in (0, 1))
    expected = [brute_force(fixed == k, warped == k, spacing) for k in (1, 2, 3)]
    np.testing.assert_allclose(metrics.label_hd95(fixed, warped, [1, 2, 3], spacing), expected, rtol=1e-6)


def test_hd95_of_missing_label_ids():
    fixed, warped = np.zeros((2, 5, 5), int)
    fixed[1:3, 1:3], warped[2:4, 1:3] = 1, 1
    fixed[4, 4] = 2
    distances = metrics.label_hd95(fixed, warped, [1, 2, 3], (2, 1))
    np.testing.assert_array_equal(distances, [2, np.inf, np.nan])
    assert metrics.label_mean(distances) == 2
    assert np.isinf(distances).sum() == 1


def test_tre_of_a_translation_in_millimetres():
    shift = np.float32([1, -0.5, 0.25])
    displacement = np.zeros((6, 7, 8, 3), np.float32) + shift
    points = np.array([[2, 3, 4], [1.25, 2.5, 3.75]])
    found = metrics.tre(displacement, points, points, (2, 4, 8))
    np.testing.assert_allclose(found, [np.sqrt(3) * 2] * 2, rtol=1e-6)
    np.testing.assert_allclose(metrics.tre(displacement, points, points + shift, (2, 4, 8)), 0, atol=1e-5)


def test_tre_carries_points_of_the_fixed_image():
    """`u(p) = p` doubles coordinates: no error from fixed to moving, and a large one the other way."""
    displacement = np.stack(np.meshgrid(np.arange(9), np.arange(9), indexing="ij"), axis=-1).astype(np.float32)
    fixed = np.array([[1.5, 2.25], [3, 0.5]])
    np.testing.assert_allclose(transform_points(displacement, fixed), 2 * fixed)
    np.testing.assert_allclose(metrics.tre(displacement, fixed, 2 * fixed, (1, 1)), 0, atol=1e-6)
    wrong_way = np.linalg.norm(3 * fixed, axis=-1)  # |4 p - p|
    np.testing.assert_allclose(metrics.tre(displacement, 2 * fixed, fixed, (1, 1)), wrong_way, rtol=1e-6)


def test_landmarks_that_do_not_fit_are_refused():
    displacement, points = np.zeros((5, 6, 2)), np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"fixed_points has shape \(4, 2\) and moving_points has shape \(3, 2\)"):
        metrics.tre(displacement, points, points[:3], (1, 1))
    with pytest.raises(ValueError, match="spacing"):
        metrics.tre(displacement, points, points, (1, 1, 1))
    with pytest.raises(ValueError, match="points"):
        metrics.tre(displacement, np.zeros((4, 3)), np.zeros((4, 3)), (1, 1))
