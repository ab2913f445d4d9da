"""Segmentation files: label ids are exact and keep their integer type, in every format and storage type."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers import refused

from air_jax import UserError, io

# Ids of the Allen mouse brain atlas, above 2^24, and two that differ by 1.
ALLEN_IDS = (0, 997, 182305693, 312782550, 614454276, 614454277)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def segmentation(ids, dtype):
    return np.random.default_rng(0).choice(np.array(ids, dtype), (6, 5, 4))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".npy", ".npz", ".nrrd", ".mha"])
def test_large_label_ids_are_read_exactly(tmp_path, dtype, suffix):
    ids, path = segmentation(ALLEN_IDS, np.int64), tmp_path / f"labels{suffix}"
    if suffix.startswith(".nii"):
        nibabel.Nifti1Image(ids.astype(dtype), AFFINE, dtype=dtype).to_filename(path)
    elif suffix in (".nrrd", ".mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ids.astype(dtype).T), path)
    elif suffix == ".npy":
        np.save(path, ids.astype(dtype))
    else:
        np.savez(path, image=ids.astype(dtype))
    read = io.read_segmentation(path).array
    np.testing.assert_array_equal(read, ids)
    assert read.dtype == (np.int32 if dtype == np.float64 else dtype)


def test_an_explicit_slope_of_1_keeps_the_integers(tmp_path):
    ids = segmentation(ALLEN_IDS, np.int32)
    image = nibabel.Nifti1Image(ids, AFFINE)
    image.header.set_slope_inter(1, 0)
    image.to_filename(tmp_path / "labels.nii")
    read = io.read_segmentation(tmp_path / "labels.nii").array
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, ids)


def test_floats_above_int32_become_int64(tmp_path):
    ids = segmentation((0, 3000000001, 2**40 + 1), np.float64)
    nibabel.Nifti1Image(ids, AFFINE).to_filename(tmp_path / "labels.nii")
    read = io.read_segmentation(tmp_path / "labels.nii").array
    assert read.dtype == np.int64
    np.testing.assert_array_equal(read, ids)


@pytest.mark.parametrize(
    ("value", "dtype", "match"),
    [
        (0.5, np.float64, "not whole numbers"),
        (np.nan, np.float32, "1 of 120 values are NaN or infinite"),
        (-np.inf, np.float64, "1 of 120 values are NaN or infinite"),
        (2**24 + 1, np.float32, "the value 16777216, and float32 does not hold every whole number from 2\\^24 on"),
        (-(2**53) - 1, np.float64, "float64 does not hold every whole number from 2\\^53 on"),
        (2.0**63, np.float64, "2\\^53"),
    ],
)
def test_values_that_are_no_label_ids_are_refused(tmp_path, value, dtype, match):
    ids = np.full((4, 5, 6), 3, dtype)
    ids[1, 2, 3] = value
    nibabel.Nifti1Image(ids, AFFINE).to_filename(tmp_path / "labels.nii")
    refused(tmp_path / "labels.nii", match, io.read_segmentation)
    np.savez(tmp_path / "labels.npz", image=ids)
    refused(tmp_path / "labels.npz", match, io.read_segmentation)


def test_the_largest_ids_that_floats_hold_are_read(tmp_path):
    for bits, dtype in ((24, np.float32), (53, np.float64)):
        np.savez(tmp_path / "labels.npz", image=np.full((4, 5, 6), 2**bits - 1, dtype))
        assert (io.read_segmentation(tmp_path / "labels.npz").array == 2**bits - 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_written_segmentation_has_the_type_of_its_array(tmp_path, dtype, suffix):
    ids = segmentation((0, 1, 2, np.iinfo(dtype).max), dtype)
    path = tmp_path / f"labels{suffix}"
    io.write_segmentation(path, ids, AFFINE)
    if suffix == ".nii.gz":
        assert nibabel.load(path).get_data_dtype() == dtype
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).T
    assert theirs.dtype == dtype
    np.testing.assert_array_equal(theirs, ids)
    np.testing.assert_array_equal(io.read_segmentation(path).array, ids)
    with pytest.raises(ValueError, match="label ids must be integers"):
        io.write_segmentation(path, ids.astype(np.float32), AFFINE)


def test_a_picture_holds_label_ids_of_8_and_16_bits(tmp_path):
    for dtype in (np.uint8, np.uint16):
        ids = segmentation((0, 7, np.iinfo(dtype).max), dtype)[..., 0]
        io.write_segmentation(tmp_path / "labels.png", ids, np.eye(3))
        read = io.read_segmentation(tmp_path / "labels.png").array
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, ids)
    with pytest.raises(UserError, match="cannot hold int32"):
        io.write_segmentation(tmp_path / "labels.png", ids.astype(np.int32), np.eye(3))
