import numpy as np
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


def test_the_threshold_itself_is_background():
    half = np.full((1, 3, 3, 1), 0.5, np.float32)
    assert np.isnan(metrics.mask_dice(half, half))
