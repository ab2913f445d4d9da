"""The figures of a run: the overlap that they write under each pair."""

import numpy as np

from air_jax.training.figures import RegisteredPairs, label_dice


def test_the_dice_of_a_drawn_pair_is_that_of_its_labels():
    """A square of 4 pixels that lies one pixel to the right: 12 of 16 pixels overlap; moved back, all."""
    fixed = np.zeros((2, 8, 8), np.int32)
    fixed[:, 2:6, 2:6] = 3
    moving = np.roll(fixed, 1, axis=2)
    displacement = np.zeros((2, 8, 8, 2), np.float32)
    displacement[1, ..., 1] = 1
    images = fixed[..., None].astype(np.float32), moving[..., None].astype(np.float32)
    drawn = RegisteredPairs(*images, images[1], displacement, {}, (fixed, moving))
    np.testing.assert_allclose(label_dice(drawn), [0.75, 1])
    assert label_dice(drawn._replace(segmentations=None)) is None


def test_labels_of_moving_images_only_count_and_pairs_without_labels_have_no_dice():
    empty = np.zeros((1, 8, 8), np.int32)
    moving = empty.copy()
    moving[:, 2:6, 2:6] = 3
    images = np.zeros((1, 8, 8, 1), np.float32)
    drawn = RegisteredPairs(images, images, images, np.zeros((1, 8, 8, 2), np.float32), {}, (empty, moving))
    np.testing.assert_array_equal(label_dice(drawn), [0])
    assert label_dice(drawn._replace(segmentations=(empty, empty))) is None
