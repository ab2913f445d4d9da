"""The scores of the table of everyday tasks: a known displacement has no error, others theirs."""

import numpy as np
import pytest

from air_jax import io
from experiments.everyday.table import inputs, run

AFFINE = np.diag([2.0, 2.0, 1.0])


@pytest.fixture
def shifted(tmp_path):
    """The field of a shift by 3 voxels along x, and a square, its segmentation, that it leads to."""
    field = np.zeros((20, 16, 2), np.float32)
    field[..., 0] = 3
    io.write_field(tmp_path / "field.nii.gz", field, AFFINE)
    square = np.zeros((20, 16), np.int16)
    square[4:9, 5:11] = 7
    io.write_segmentation(tmp_path / "fixed.nii.gz", square, AFFINE)
    io.write_segmentation(tmp_path / "moving.nii.gz", np.roll(square, 3, axis=0), AFFINE)
    return tmp_path


def test_the_true_displacement_has_no_error(shifted):
    field = shifted / "field.nii.gz"
    assert run.dice(field, shifted / "fixed.nii.gz", shifted / "moving.nii.gz") == {"dice": 1.0}
    assert run.dice(field, shifted / "fixed.nii.gz", shifted / "fixed.nii.gz") == {"dice": 0.4}  # 2 of 5 rows meet
    truth = np.zeros((20, 16, 2), np.float32)
    truth[..., 0] = 3.5
    np.savez(shifted / "truth.npz", field=truth, half=np.arange(16) < np.full((20, 1), 8))
    assert run.distances(field, shifted / "truth.npz", 2.0) == {"error_half_mm": 1.0}
    io.write_landmarks(shifted / "fixed.csv", np.array([[4.0, 6.0], [8.0, 8.0]]))
    io.write_landmarks(shifted / "moving.csv", np.array([[10.0, 6.0], [14.0, 12.0]]))
    found = run.target_errors(field, shifted / "fixed.csv", shifted / "moving.csv")
    assert found == {"median_pixels": 2.0, "mean_pixels": 2.0}


def test_the_truth_leads_from_the_image_to_the_deformed_one():
    field = inputs.smooth_field((40, 36), 2.0, 6.0, np.random.default_rng(0))
    rows, columns = np.indices((40, 36))
    image = np.sin(rows / 5) + np.cos(columns / 6)
    back = inputs.pulled(inputs.pulled(image, field), inputs.inverse(field))
    inner = (slice(6, -6),) * 2
    assert np.abs(inputs.pulled(image, field) - image)[inner].max() > 0.2
    np.testing.assert_allclose(back[inner], image[inner], atol=0.03)


def test_new_results_replace_those_of_the_same_tool():
    old = {"row": {"ants": {"a": 1}, "air_jax": {"a": 2}}, "other": {"ants": 3}}
    new = {"row": {"ants": {"a": 4}}, "load": 1}
    assert run.merged(old, new) == {"row": {"ants": {"a": 4}, "air_jax": {"a": 2}}, "other": {"ants": 3}, "load": 1}
