"""Figures of a training run show their arrays and scores."""

import numpy as np

from air_jax.visualize import attention_figure, curves_figure, registration_figure, segmentation_figure


def drawn(axis, index=0):
    return np.asarray(axis.images[index].get_array())


def test_pairs_are_rows_with_their_scores_and_folds():
    rng = np.random.default_rng(0)
    fixed, moving, warped = rng.random((3, 2, 9, 12, 1), np.float32)
    fixed[1] = warped[1]
    displacement = np.zeros((2, 9, 12, 2), np.float32)
    displacement[0, 3, 6] = 0, 2.5  # beyond both neighbours on the right
    figure = registration_figure(fixed, moving, warped, displacement, "a title")
    axes = np.array(figure.axes).reshape(2, 6)
    for row in range(2):
        for axis, images in zip(axes[row], (moving, fixed, warped, fixed - warped, 0.5 * moving, warped), strict=True):
            np.testing.assert_allclose(drawn(axis), images[row, ..., 0], atol=1e-6)
        assert len(axes[row, 4].collections[0].get_segments()) == 9 + 12
    # By hand: the central difference of voxel (3, 5) is 1 + 1.25, and that of (3, 7) is 1 - 1.25.
    assert np.argwhere(drawn(axes[0, 5], 1) == 2).tolist() == [[3, 7]]
    # One-sided differences of the voxel itself, and of its neighbours on the right, are 1 - 2.5.
    assert np.argwhere(drawn(axes[0, 5], 1) == 1).tolist() == [[3, 6]]
    assert (drawn(axes[1, 5], 1) == 0).all()
    mask_fixed, mask_warped = fixed[0] > 0.5, warped[0] > 0.5
    dice = 2 * (mask_fixed & mask_warped).sum() / (mask_fixed.sum() + mask_warped.sum())
    assert axes[0, 2].get_xlabel() == f"Dice {dice:.2f}"
    assert axes[1, 2].get_xlabel() == "Dice 1.00"
    assert "Dice: pixels above 0.5" in figure.get_suptitle()
    of_labels = registration_figure(fixed, moving, warped, displacement, "a title", label_dice=np.array([0.25, 0.5]))
    assert [axis.get_xlabel() for axis in of_labels.axes[2::6]] == ["Dice 0.25", "Dice 0.50"]
    assert "Dice: labels, mean" in of_labels.get_suptitle()
    assert [axis.get_xlabel() for axis in axes[:, 5]] == [f"{100 / 70:.1f} % folded", "0.0 % folded"]


def test_curves_are_drawn_against_their_own_steps():
    scores = {"validation_dice": 0.5, "validation_folding_percent": 1.0, "validation_any_corner_folding_percent": 2.0}
    figure = curves_figure([{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, **scores}])
    curves = [[line.get_xydata().tolist() for line in axis.lines] for axis in figure.axes]
    assert curves == [[[[1, 3.0], [2, 2.0]]], [[[2, 0.5]]], [[[2, 1.0]], [[2, 2.0]]]]


def test_curves_without_points_are_left_out():
    figure = curves_figure([{"step": 1, "loss": 3.0}, {"step": 2, "validation_dice": 0.5}])
    assert [axis.get_ylabel() for axis in figure.axes] == ["training loss", "validation Dice"]
    assert len(curves_figure([]).axes) == 1


def test_attention_is_that_of_the_brightest_patch():
    rng = np.random.default_rng(0)
    fixed, moving = 0.1 * rng.random((2, 10, 8, 1), np.float32)
    moving[5:8, 1:3] = 1  # in the patch of row 1, column 0
    weights = rng.random((2, 6, 6), np.float32)
    figure = attention_figure(fixed, moving, weights, token_grid=(3, 2), patch_size=(4, 4))
    first, *heads = figure.axes
    (frame,) = first.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((-0.5, 3.5), 4, 4)
    assert len(heads) == 2
    for axis, weight in zip(heads, weights, strict=True):
        np.testing.assert_array_equal(drawn(axis), fixed[..., 0])
        np.testing.assert_array_equal(drawn(axis, 1), weight[2].reshape(3, 2))
        assert axis.images[1].get_extent() == [-0.5, 7.5, 11.5, -0.5]
    first, *heads = attention_figure(moving, fixed, weights, token_grid=(3, 2), patch_size=(4, 4), from_fixed=True).axes
    assert first.patches[0].get_xy() == (-0.5, 3.5)
    np.testing.assert_array_equal(drawn(first), moving[..., 0])
    np.testing.assert_array_equal(drawn(heads[0]), fixed[..., 0])


def test_segmentations_are_drawn_over_their_images():
    rng = np.random.default_rng(0)
    images, (known, found) = rng.random((2, 6, 7, 1), np.float32), rng.choice([0, 4, 300], (2, 2, 6, 7))
    figure = segmentation_figure(images, known, found, "a title")
    axes = np.array(figure.axes).reshape(2, 4)
    for row in range(2):
        for axis in axes[row]:
            np.testing.assert_array_equal(drawn(axis), images[row, ..., 0])
        for axis, segmentation in zip(axes[row, 1:3], (known[row], found[row]), strict=True):
            shown = axis.images[1].get_array()
            np.testing.assert_array_equal(np.ma.getmaskarray(shown), segmentation == 0)
            np.testing.assert_array_equal(shown.filled(0), np.select([segmentation == 4, segmentation == 300], [1, 2]))
        np.testing.assert_array_equal(axes[row, 3].images[1].get_array().filled(0), known[row] != found[row])
