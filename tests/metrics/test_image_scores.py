"""Scores of images and of displacements with a known truth, against SimpleITK, NumPy and by hand."""

import numpy as np
import pytest
import SimpleITK

from air_jax import metrics


def test_dice_agrees_with_simpleitk():
    rng = np.random.default_rng(0)
    fixed, warped = rng.random((2, 3, 9, 8, 1), dtype=np.float32)
    dice = metrics.mask_dice(fixed, warped)
    for pair in range(3):
        overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
        overlap.Execute(
            *(SimpleITK.GetImageFromArray((image[pair, ..., 0] > 0.5).astype(np.uint8)) for image in (fixed, warped))
        )
        np.testing.assert_allclose(dice[pair], overlap.GetDiceCoefficient(), rtol=1e-6)


def test_dice_by_hand():
    fixed = np.zeros((3, 4, 4, 1), np.float32)
    warped = np.zeros((3, 4, 4, 1), np.float32)
    fixed[0, :2] = 1  # 8 pixels
    warped[0, 1:3] = 1  # 8 pixels, 4 in common
    fixed[1, 0, 0] = 1  # only one side has a foreground
    np.testing.assert_array_equal(metrics.mask_dice(fixed, warped), [0.5, 0, np.nan])


def test_values_at_the_threshold_are_background():
    half = np.full((1, 3, 3, 1), 0.5, np.float32)
    assert np.isnan(metrics.mask_dice(half, half))


def test_endpoint_errors_agree_with_numpy():
    rng = np.random.default_rng(0)
    displacement, truth = rng.standard_normal((2, 3, 5, 6, 2)).astype(np.float32)
    fixed = rng.random((3, 5, 6, 2), dtype=np.float32)
    fixed[2] = 0
    found = metrics.endpoint_errors(displacement, truth, fixed, threshold=0.7)
    lengths = np.sqrt(((displacement - truth).astype(np.float64) ** 2).sum(-1))
    foreground = (fixed > 0.7).any(-1)
    expected = [
        length[inside].mean() if inside.any() else np.nan for length, inside in zip(lengths, foreground, strict=True)
    ]
    np.testing.assert_allclose(found["endpoint_error"], lengths.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["foreground_endpoint_error"], expected, rtol=1e-5)


def test_image_scores_are_mse_and_dice():
    rng = np.random.default_rng(0)
    fixed, warped = rng.random((2, 3, 5, 6, 1), dtype=np.float32)
    scores = metrics.image_scores(fixed, warped)
    np.testing.assert_allclose(scores["mse"], ((fixed - warped) ** 2).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(scores["dice"], metrics.mask_dice(fixed, warped))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: metrics.mse(a, b), r"mse: fixed has shape \(2, 5, 6, 1\) and warped has shape \(2, 5, 1, 1\)"),
        (lambda a, b: metrics.mask_dice(a, b), "mask_dice: fixed has shape"),
        (lambda a, b: metrics.image_scores(a, b), "mse: fixed has shape"),
        (lambda a, b: metrics.endpoint_errors(a, b, a), r"displacement has shape \(2, 5, 6, 1\) and truth has shape"),
        (lambda a, b: metrics.endpoint_errors(a, a, b), r"fixed has shape \(2, 5, 1, 1\) and displacement has shape"),
    ],
)
def test_other_shapes_are_refused_and_not_broadcast(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 5, 6, 1)), np.zeros((2, 5, 1, 1)))
