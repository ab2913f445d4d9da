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


def test_the_threshold_itself_is_background():
    half = np.full((1, 3, 3, 1), 0.5, np.float32)
    assert np.isnan(metrics.mask_dice(half, half))


def test_folding_by_hand():
    displacement = np.zeros((2, 5, 5, 2), np.float32)
    displacement[1, ..., 0] = -2 * np.arange(5)[:, None]  # rows reversed: p + u(p) = -p, determinant -1 everywhere
    np.testing.assert_array_equal(metrics.folding_percent(displacement), [0, 100])
    np.testing.assert_array_equal(metrics.any_corner_folding_percent(displacement), [0, 100])
    np.testing.assert_allclose(metrics.sd_log_jacobian(displacement), [0, 0], atol=1e-6)


def test_any_corner_counts_the_folds_that_central_differences_miss():
    displacement = np.zeros((1, 5, 5, 2), np.float32)
    displacement[0, 2, 2, 0] = 1.5
    assert metrics.folding_percent(displacement)[0] == 0
    # Folded at the voxel itself and at the next row's voxel, which sees it backwards: 2 of the 9 interior voxels.
    np.testing.assert_allclose(metrics.any_corner_folding_percent(displacement), 100 * 2 / 9, rtol=1e-6)


@pytest.mark.parametrize("shape", [(9, 10), (6, 7, 8)])
def test_jacobian_scores_agree_with_simpleitk(shape):
    num_axes = len(shape)
    displacement = 0.3 * np.random.default_rng(0).standard_normal((1, *shape, num_axes)).astype(np.float32)
    field = SimpleITK.GetImageFromArray(displacement[0, ..., ::-1].astype(np.float64), isVector=True)  # ITK: x first
    interior = (slice(1, -1),) * num_axes
    determinant = SimpleITK.GetArrayFromImage(SimpleITK.DisplacementFieldJacobianDeterminant(field))[interior]
    np.testing.assert_allclose(metrics.folding_percent(displacement), 100 * (determinant <= 0).mean(), rtol=1e-5)
    expected = np.log(np.clip(determinant, 1e-9, None)).std()
    np.testing.assert_allclose(metrics.sd_log_jacobian(displacement), expected, rtol=1e-3)
