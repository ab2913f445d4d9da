"""NIfTI files: written images are read back, and ITK reads the same voxels and affine."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers import check_against_itk, itk_affine, oblique_affine, refused
from scipy.spatial.transform import Rotation

from air_jax import UserError, io

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("shape", [(11, 9), (11, 9, 7)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_a_written_image_is_read_back_and_itk_agrees(tmp_path, shape, dtype, suffix):
    array = (RNG.random(shape) * 200).astype(dtype)
    affine = oblique_affine(len(shape))
    path = tmp_path / f"image{suffix}"
    io.write_image(path, array, affine)
    volume = check_against_itk(path) if suffix.islower() else io.read_image(path)
    assert volume.array.dtype == dtype
    assert (volume.shape, volume.num_axes) == (shape, len(shape))
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    header = nibabel.load(path).header
    assert header["sform_code"] == header["qform_code"] == 1
    assert header.get_xyzt_units()[0] == "mm"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("num_axes", [2, 3])
def test_an_image_of_simpleitk_is_read(tmp_path, num_axes):
    shape = (11, 9, 7)[:num_axes]
    image = SimpleITK.GetImageFromArray(RNG.random(shape[::-1]).astype(np.float32))
    affine = oblique_affine(num_axes)
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, tmp_path / "image.nii")
    np.testing.assert_allclose(check_against_itk(tmp_path / "image.nii").affine, affine, atol=1e-5)


def write_forms(path, qform, qform_code, sform, sform_code, shape=(6, 5, 4), unit="mm"):
    image = nibabel.Nifti1Image(RNG.random(shape).astype(np.float32), None)
    image.header.set_zooms(np.linalg.norm(qform[:3, :3], axis=0)[: len(shape)])
    image.set_qform(qform, qform_code)
    image.set_sform(sform, sform_code)
    image.header.set_xyzt_units(unit)
    image.to_filename(path)


@pytest.mark.parametrize("sform_code", [0, 1, 2, 4])
@pytest.mark.parametrize("qform_code", [0, 1, 2])
def test_qform_or_sform_is_chosen_as_itk_chooses(tmp_path, qform_code, sform_code):
    qform, sform = np.diag([2.0, 3, 4, 1]), np.diag([2.0, 3, 4, 1])
    qform[:3, 3] = 9
    write_forms(tmp_path / "image.nii", qform, qform_code, sform, sform_code)
    check_against_itk(tmp_path / "image.nii")


def test_affines_in_metres_become_mm(tmp_path):
    affine = np.diag([0.002, 0.003, 0.004, 1])
    write_forms(tmp_path / "image.nii", affine, 1, affine, 1, unit="meter")
    check_against_itk(tmp_path / "image.nii")


def test_a_sheared_affine_is_refused(tmp_path):
    qform, sform = np.diag([2.0, 3, 4, 1]), np.diag([2.0, 3, 4, 1])
    sform[0, 1] = 0.3
    write_forms(tmp_path / "image.nii", qform, 0, sform, 1)
    with pytest.raises(RuntimeError, match="orthonormal"):
        SimpleITK.ReadImage(tmp_path / "image.nii")
    refused(tmp_path / "image.nii", "sheared affine.*resample it first")
    write_forms(tmp_path / "image.nii", qform, 1, sform, 1)
    check_against_itk(tmp_path / "image.nii")
    with pytest.raises(UserError, match="sheared"):
        io.write_image(tmp_path / "new.nii", np.zeros((4, 5, 6)), sform)
    assert not (tmp_path / "new.nii").exists()


def test_contradictory_and_singular_affines_are_refused(tmp_path):
    write_forms(tmp_path / "image.nii", np.eye(4), 0, np.diag([2.0, 3, 4, 1]), 2)
    refused(tmp_path / "image.nii", "different voxel sizes")
    flat = np.diag([1.0, 1, 0, 1])
    write_forms(tmp_path / "image.nii", np.eye(4), 0, flat, 2)
    refused(tmp_path / "image.nii", "not invertible")
    write_forms(tmp_path / "image.nii", np.eye(4), 0, flat, 1, (6, 5))
    np.testing.assert_array_equal(io.read_image(tmp_path / "image.nii").affine, np.diag([-1.0, -1, 1]))
    write_forms(tmp_path / "image.nii", np.eye(4), 0, flat * [0, 1, 1, 1], 1, (6, 5))
    refused(tmp_path / "image.nii", "not invertible")


def test_slices_are_2d_images_placed_as_in_itk(tmp_path):
    path = tmp_path / "slice.nii"
    in_plane = np.diag([2.0, 3, 4, 1])
    in_plane[:2, :2] = oblique_affine(2)[:2, :2]
    in_plane[:3, 3] = 5, 6, 7
    write_forms(path, in_plane, 1, in_plane, 1, (6, 5))
    flat = check_against_itk(path)
    write_forms(path, in_plane, 1, in_plane, 1, (6, 5, 1))
    volume = io.read_image(path)
    assert volume.shape == (6, 5)
    np.testing.assert_allclose(volume.affine, flat.affine, atol=1e-6)

    tilted = np.eye(4)
    tilted[:3, :3] = Rotation.from_rotvec([0.3, 0, 0]).as_matrix() * [2.0, 3.0, 4.0]
    write_forms(path, tilted, 1, tilted, 1, (6, 5))
    check_against_itk(path)

    sagittal = np.array([[0, 0, 2.0, 7], [1.5, 0, 0, 8], [0, 1.2, 0, 9], [0, 0, 0, 1]])
    write_forms(path, sagittal, 1, sagittal, 1, (6, 5))
    with pytest.raises(RuntimeError, match="determinant is 0"):
        SimpleITK.ReadImage(path)
    np.testing.assert_allclose(io.read_image(path).affine, [[1.5, 0, -7], [0, 1.2, -8], [0, 0, 1]], atol=1e-6)


def test_voxel_types_are_kept_or_become_float32(tmp_path):
    path = tmp_path / "image.nii"
    scaled = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    scaled.header.set_slope_inter(0.5, 10)
    scaled.to_filename(path)
    volume = io.read_image(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, np.arange(24).reshape(2, 3, 4) * 0.5 + 10)
    check_against_itk(path)

    big = nibabel.Nifti1Header(endianness=">")
    big.set_data_dtype(np.int16)
    nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4), big).to_filename(path)
    volume = io.read_image(path)
    assert volume.array.dtype == np.int16
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array.ravel(), np.arange(24))

    io.write_image(path, np.full((3, 4, 5), 70000, np.int64), np.eye(4))
    assert io.read_image(path).array.dtype == np.int32
    io.write_image(path, np.full((3, 4, 5), 2**40, np.int64), np.eye(4))
    np.testing.assert_array_equal(io.read_image(path).array, 2**40)
    io.write_image(path, np.ones((3, 4, 5), bool), np.eye(4))
    assert io.read_image(path).array.dtype == np.uint8

    holes = np.ones((3, 4, 5), np.float64)
    holes[0, 0, :3] = np.nan, np.inf, -np.inf
    nibabel.Nifti1Image(holes, np.eye(4)).to_filename(path)
    np.testing.assert_array_equal(io.read_image(path).array, np.where(np.isfinite(holes), 1, 0).astype(np.float32))


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_colours_are_read_as_itk_reads_them(tmp_path, names):
    pixels = RNG.integers(0, 256, (4, 5, 6, len(names)), np.uint8)
    colours = np.zeros((4, 5, 6), np.dtype([(name, "u1") for name in names]))
    for i, name in enumerate(names):
        colours[name] = pixels[..., i]
    nibabel.Nifti1Image(colours, np.diag([1.0, 2, 3, 1])).to_filename(tmp_path / "image.nii.gz")
    volume = io.read_image(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(volume.array, pixels[..., :3])
    image = SimpleITK.ReadImage(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0, 3), pixels)
    np.testing.assert_allclose(volume.affine, itk_affine(image))
    refused(tmp_path / "image.nii.gz", "3 channels; a segmentation has one", io.read_segmentation)


def test_images_that_nifti_or_the_library_cannot_hold_are_refused(tmp_path):
    path = tmp_path / "image.nii.gz"
    nibabel.Nifti1Image(np.zeros((4, 5, 6, 7), np.float32), np.eye(4)).to_filename(path)
    refused(path, r"\(4, 5, 6, 7\).*without time axis")
    nibabel.Nifti1Image(np.zeros((4, 5, 6, 1), np.float32), np.eye(4)).to_filename(path)
    assert io.read_image(path).shape == (4, 5, 6)
    nibabel.Nifti1Image(np.zeros((4, 5, 6), np.complex64), np.eye(4)).to_filename(path)
    refused(path, "one channel")
    for array in (np.zeros((4, 5, 6, 2)), np.zeros((40000, 2, 2), np.uint8)):
        with pytest.raises(UserError, match=r"NIfTI|\.nii images have one channel"):
            io.write_image(tmp_path / "new.nii", array, np.eye(4))
    with pytest.raises(ValueError, match="does not fit"):
        io.write_image(tmp_path / "new.nii", np.zeros((4, 5)), np.eye(4))
