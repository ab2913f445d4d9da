"""NRRD, MetaImage, MGH and DICOM: placed in space as ITK places them; everything but one grey image is refused."""

import locale
import os

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers import check_against_itk, itk_affine, oblique_affine, refused
from scipy.spatial.transform import Rotation

from air_jax import UserError, io

ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4"]


def values(dtype, shape=(11, 9, 7)):
    lowest = 0 if np.dtype(dtype).kind == "u" else -100
    return np.random.default_rng(0).integers(lowest, 100, shape).astype(dtype)


def itk_image(array, affine):
    """Returns an image whose array, in index order, has an affine in LPS."""
    image = SimpleITK.GetImageFromArray(array.T)
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
    return image


@pytest.mark.parametrize("suffix", ITK)
@pytest.mark.parametrize("num_axes", [2, 3])
@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_an_image_of_simpleitk_is_read(tmp_path, suffix, num_axes, is_compressed, dtype):
    array, affine = values(dtype, (11, 9, 7)[:num_axes]), oblique_affine(num_axes)
    SimpleITK.WriteImage(itk_image(array, affine), tmp_path / f"image{suffix}", is_compressed)
    volume = check_against_itk(tmp_path / f"image{suffix}")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert volume.array.flags.c_contiguous


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".MHA"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_written_image_is_read_back_and_itk_agrees(tmp_path, suffix, dtype, num_axes):
    array, affine = values(dtype, (11, 9, 7)[:num_axes]), oblique_affine(num_axes)
    path = tmp_path / f"image{suffix}"
    io.write_image(path, array, affine)
    volume = check_against_itk(path) if suffix.islower() else io.read_image(path)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


NRRD = """NRRD0004
type: short
dimension: 3
space: {space}
sizes: 5 4 3
space directions: (0,2,0) (-3,0,0) (0,0,4)
kinds: domain domain domain
endian: {endian}
encoding: {encoding}
space origin: (10,20,30)
"""


@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_nrrd_in_either_frame_and_byte_order_is_read_as_itk_reads_it(tmp_path, space, endian):
    array = values("i2", (5, 4, 3))
    header = NRRD.format(space=space, endian=endian, encoding="raw").encode()
    stored = array.T.astype("<i2" if endian == "little" else ">i2")
    (tmp_path / "image.nrrd").write_bytes(header + b"\n" + stored.tobytes())
    volume = check_against_itk(tmp_path / "image.nrrd")
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype.isnative


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_one_slice_is_a_2d_image_and_a_fourth_axis_of_one_is_dropped(tmp_path, suffix):
    array = values("i2", (11, 9, 1))
    affine = np.diag([2.0, 3, 4, 1])
    affine[:2, :2] = oblique_affine(2)[:2, :2]
    affine[:3, 3] = 5, 6, 7
    path = tmp_path / f"image{suffix}"
    SimpleITK.WriteImage(itk_image(array, affine), path)
    volume = io.read_image(path)
    np.testing.assert_array_equal(volume.array, array[..., 0])
    np.testing.assert_allclose(volume.affine, affine[[0, 1, 3]][:, [0, 1, 3]], atol=1e-9)
    for size in (1, 2):
        image = SimpleITK.JoinSeries([itk_image(values("i2"), oblique_affine(3))] * size)
        SimpleITK.WriteImage(image, path)
        if size == 1:
            np.testing.assert_array_equal(io.read_image(path).array, values("i2"))
        else:
            refused(path, r"\(11, 9, 7, 2\).*without time axis")


@pytest.mark.parametrize("suffix", ITK)
def test_colours_vectors_and_complex_numbers_are_refused(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), path)
    refused(path, "3 channels; give an image of one channel")
    if suffix in (".nrrd", ".nhdr"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.complex64)), path)
        refused(path, "one channel")
    with pytest.raises(UserError, match=r"one channel|only read"):
        io.write_image(path, np.zeros((4, 5, 6, 3)), np.eye(4))


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_a_header_without_its_voxels_is_refused(tmp_path, suffix):
    SimpleITK.WriteImage(itk_image(values("i2"), np.eye(4)), tmp_path / f"image{suffix}")
    (tmp_path / "image.raw").write_bytes(b"\0" * 99)
    refused(tmp_path / f"image{suffix}", r"its header declares 1\.386 kB, it can hold 99 bytes")
    (tmp_path / "image.raw").unlink()
    refused(tmp_path / f"image{suffix}", r"its voxels are in image\.raw, which is missing or no file")
    os.mkfifo(tmp_path / "image.raw")
    refused(tmp_path / f"image{suffix}", r"its voxels are in image\.raw, which is missing or no file")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_file_that_lacks_one_byte_is_refused_and_nothing_is_printed(tmp_path, suffix, capfd):
    path = tmp_path / f"image{suffix}"
    for is_compressed in (False, True):
        SimpleITK.WriteImage(itk_image(values("i2"), np.eye(4)), path, is_compressed)
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] if not is_compressed else whole[: len(whole) // 2])
        refused(path, "damaged, or not")
    path.write_bytes(b"no image")
    refused(path, "damaged, or not")
    assert capfd.readouterr() == ("", "")


# MGH


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_mgh_is_placed_as_itk_places_the_same_image_in_nifti(tmp_path, suffix, dtype):
    array, ras = values(dtype), np.diag([-1.0, -1, 1, 1]) @ oblique_affine(3)
    path = tmp_path / f"image{suffix}"
    nibabel.MGHImage(array, ras).to_filename(path)
    nibabel.Nifti1Image(array, ras).to_filename(tmp_path / "image.nii")
    volume, image = io.read_image(path), SimpleITK.ReadImage(tmp_path / "image.nii")
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-4)
    assert volume.array.dtype == dtype
    assert volume.array.dtype.isnative
    nibabel.MGHImage(np.stack([array, array], axis=-1), ras).to_filename(path)
    refused(path, "2 frames")


@pytest.mark.parametrize("suffix", [".mgz", ".mgh", ".MGZ"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_written_mgh_is_read_back_and_nibabel_agrees(tmp_path, suffix, dtype, num_axes):
    array, affine = values(dtype, (11, 9, 7)[:num_axes]), oblique_affine(num_axes)
    path = tmp_path / f"image{suffix}"
    io.write_image(path, array, affine)
    volume, theirs = io.read_image(path), nibabel.load(path)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(theirs.dataobj).reshape(array.shape), array)
    expected = (np.diag([-1.0, -1, 1, 1]) @ theirs.affine)[:num_axes, :num_axes]
    np.testing.assert_allclose(expected, affine[:-1, :-1], atol=1e-5)


def test_label_ids_that_mgh_cannot_hold_are_refused(tmp_path):
    ids = np.full((4, 5, 6), 2**31 - 1, np.uint64)
    io.write_segmentation(tmp_path / "labels.mgz", ids, np.eye(4))
    np.testing.assert_array_equal(io.read_segmentation(tmp_path / "labels.mgz").array, ids)
    for value, dtype in ((2**31, np.uint32), (-(2**31) - 1, np.int64), (2**63, np.uint64)):
        with pytest.raises(UserError, match="at most 31 bits"):
            io.write_segmentation(tmp_path / "labels.mgz", np.full((4, 5, 6), value, dtype), np.eye(4))


# DICOM


def write_series(folder, array, affine, *, uid="1.2.3", missing=(), slope=None):
    """Writes `[X, Y, Z]` int16 as a series, one slice a file."""
    folder.mkdir(exist_ok=True)
    before = locale.setlocale(locale.LC_ALL)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in set(range(array.shape[2])) - set(missing):
        image = SimpleITK.GetImageFromArray(array[:, :, k].T)
        image.SetSpacing(spacing[:2].tolist())
        position = affine[:3, 3] + affine[:3, 2] * k
        tags = {
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{k + 1}",
            "0020|000d": "1.2",
            "0020|000e": uid,
            "0020|0013": f"{k + 1}",
            "0020|0032": "\\".join(f"{x:.6f}" for x in position),
            "0020|0037": "\\".join(f"{x:.6f}" for x in direction[:, :2].T.ravel()),
            "0018|0050": f"{spacing[2]}",
        } | ({} if slope is None else {"0028|1053": f"{slope}", "0028|1052": "-1000"})
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(folder / f"{uid}_{99 - k}.dcm")
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # GDCM leaves C behind, in which Python opens text files as ASCII
    return folder


def test_a_dicom_series_is_read_as_itk_reads_it(tmp_path):
    array, affine = values("i2"), oblique_affine(3)
    folder = write_series(tmp_path / "series", array, affine)
    (folder / "notes.txt").write_text("no DICOM")
    volume = io.read_image(folder)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-9)


def test_faulty_dicom_folders_are_refused(tmp_path, capfd):
    array, affine = values("i2"), oblique_affine(3)
    refused(
        write_series(tmp_path / "gap", array, affine, missing=[3]), "unevenly spaced or tilted, or some are missing"
    )
    flat = affine.copy()
    flat[:3, 2] *= 1e-9
    refused(write_series(tmp_path / "one_place", array, flat), "unevenly spaced")
    tilted = affine.copy()
    tilted[:3, 2] += 0.3 * tilted[:3, 1]
    refused(write_series(tmp_path / "gantry", array, tilted), "unevenly spaced or tilted")
    folder = write_series(tmp_path / "two", array, affine)
    write_series(folder, array, affine, uid="1.2.4")
    refused(folder, r"has 2 DICOM series \(1\.2\.3, 1\.2\.4\)")
    for i in range(5, 10):
        write_series(folder, array[:, :, :1], affine, uid=f"1.2.{i}")
    refused(folder, "has 7 DICOM series .*and 2 more")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "folder without DICOM files")
    assert capfd.readouterr() == ("", "")


def test_one_slice_of_dicom_is_a_2d_image(tmp_path):
    affine = np.diag([0.8, 1.1, 2.5, 1.0])
    folder = write_series(tmp_path / "slice", values("i2")[..., :1], affine)
    volume = io.read_image(folder)
    np.testing.assert_array_equal(volume.array, values("i2")[..., 0])
    np.testing.assert_allclose(volume.affine, np.diag([0.8, 1.1, 1]))


def test_colours_of_dicom_are_refused(tmp_path):
    (tmp_path / "series").mkdir()
    image = SimpleITK.GetImageFromArray(np.zeros((8, 9, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, tmp_path / "series" / "a.dcm")
    refused(tmp_path / "series", "has colours")


def test_a_turned_series_keeps_its_place(tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [90, 0, 30], degrees=True).as_matrix() * [0.7, 0.7, 3]
    folder = write_series(tmp_path / "coronal", values("i2"), affine)
    np.testing.assert_allclose(io.read_image(folder).affine, affine, atol=1e-4)
