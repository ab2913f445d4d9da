"""Pictures, NumPy images and faults of every format; `test_nifti.py` tests NIfTI."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers import itk_affine, oblique_affine, refused
from PIL import Image

from air_jax import UserError, io
from air_jax.io.image import SUFFIXES, WRITTEN
from air_jax.io.space import reversed_affine

RNG = np.random.default_rng(0)

# Pictures


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize(("shape", "dtype"), [((9, 11), np.uint8), ((9, 11), np.uint16), ((9, 11, 3), np.uint8)])
def test_a_written_picture_is_read_back_and_itk_agrees(tmp_path, shape, dtype, suffix):
    array = (RNG.random(shape) * np.iinfo(dtype).max).astype(dtype)
    path = tmp_path / f"picture{suffix}"
    io.write_image(path, array, np.eye(3))
    volume = io.read_image(path)
    assert volume.array.dtype == dtype
    assert volume.shape == shape[:2]
    np.testing.assert_array_equal(volume.array, array)
    image = SimpleITK.ReadImage(path)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), array)
    # ITK's index order is (column, row).
    np.testing.assert_array_equal(volume.affine, itk_affine(image)[:, [1, 0, 2]])
    np.testing.assert_array_equal(io.to_physical([2, 5], volume.affine), [5, 2])


def test_floats_are_stored_as_8_bits_and_other_types_are_refused(tmp_path):
    io.write_image(tmp_path / "a.png", np.array([[-1, 0.1, 0.5], [1, 2, 0]])[..., None], np.eye(3))
    np.testing.assert_array_equal(io.read_image(tmp_path / "a.png").array, [[0, 26, 128], [255, 255, 0]])
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    io.write_image(tmp_path / "a.jpg", ramp, np.eye(3))
    np.testing.assert_allclose(io.read_image(tmp_path / "a.jpg").array / 255, ramp, atol=0.02)
    for name, array in (
        ("b.png", np.zeros((4, 5), np.int32)),
        ("b.jpg", np.zeros((4, 5), np.uint16)),
        ("b.jpg", np.zeros((4, 5, 3), np.uint16)),
        ("b.png", np.zeros((4, 5, 2))),
    ):
        with pytest.raises(UserError, match="cannot hold"):
            io.write_image(tmp_path / name, array, np.eye(3))
    with pytest.raises(UserError, match="cannot hold"):
        io.write_image(tmp_path / "b.png", np.zeros((4, 5, 6)), np.eye(4))


def test_every_mode_of_pillow_becomes_grey_or_rgb(tmp_path):
    colours = Image.fromarray((RNG.random((7, 8, 4)) * 255).astype(np.uint8))
    colours.save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "rgba.png").array, np.asarray(colours)[..., :3])
    palette = colours.convert("RGB").quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(16)))
    np.testing.assert_array_equal(io.read_image(tmp_path / "palette.png").array, np.asarray(palette.convert("RGB")))
    colours.convert("LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "la.png").array, np.asarray(colours.convert("LA"))[..., 0])
    colours.convert("1").save(tmp_path / "bits.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "bits.png").array, np.asarray(colours.convert("1")) * 255)
    floats = RNG.random((7, 8)).astype(np.float32)
    Image.fromarray(floats).save(tmp_path / "floats.tif")
    np.testing.assert_array_equal(io.read_image(tmp_path / "floats.tif").array, floats)
    rotated = Image.Exif()
    rotated[274] = 6  # rotate by 90 degrees for display
    colours.convert("RGB").save(tmp_path / "turned.jpg", exif=rotated)
    assert io.read_image(tmp_path / "turned.jpg").shape == (7, 8)


def test_pictures_of_several_pages_or_too_many_pixels_are_refused(tmp_path, monkeypatch):
    pages = [Image.new("L", (4, 5)), Image.new("L", (4, 5))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    refused(tmp_path / "pages.tif", "2 pages")
    pages[0].save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    refused(tmp_path / "large.png", "more pixels.*make it smaller")


# NumPy files


def test_a_written_array_is_read_back(tmp_path):
    array = RNG.random((5, 6, 7)).astype(np.float32)
    io.write_image(tmp_path / "a.npy", array, np.eye(4))
    volume = io.read_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(volume.affine, reversed_affine(np.ones(3)))

    affine = oblique_affine(3)
    io.write_image(tmp_path / "a.npz", array[..., None] > 0.5, affine)
    volume = io.read_image(tmp_path / "a.npz")
    assert volume.array.shape == (5, 6, 7, 1)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.affine, affine)

    np.savez(tmp_path / "b.npz", image=array.astype(np.float64), spacing=[3.0, 2.0, 1.0], more=1)
    volume = io.read_image(tmp_path / "b.npz")
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.spacing, [3, 2, 1])
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    np.testing.assert_array_equal(volume.affine, itk_affine(image)[:, [2, 1, 0, 3]])


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"picture": np.zeros((4, 5))}, "no array named image"),
        ({"image": np.zeros(4)}, "spacing"),
        ({"image": np.zeros((2, 3, 4, 5))}, "spacing"),
        ({"image": np.zeros((4, 5)), "spacing": [1.0, 0.0]}, "positive"),
        ({"image": np.zeros((4, 5)), "spacing": np.ones(3)}, "shape"),
        ({"image": np.zeros((4, 5)), "affine": np.ones((3, 3))}, "last row"),
        ({"image": np.zeros((4, 5)), "affine": np.diag([1.0, 0, 1])}, "not invertible"),
        ({"image": np.array(["a", "b"])}, "real numbers"),
        ({"image": np.array([{}, 1], object)}, "damaged, or not a NumPy file"),
    ],
)
def test_a_faulty_array_is_refused_in_one_line(tmp_path, arrays, match):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", match)


@pytest.mark.parametrize("dtype", ["i2", "u2", "i4", "u8", "f4", "f8"])
@pytest.mark.parametrize("read", [io.read_image, io.read_segmentation])
def test_arrays_of_either_byte_order_come_out_native(tmp_path, dtype, read):
    array = RNG.integers(0, 2**15, (4, 5, 6)).astype(dtype)
    for byteorder in "<>":
        stored = array.astype(array.dtype.newbyteorder(byteorder))
        np.save(tmp_path / "a.npy", stored)
        np.savez(tmp_path / "a.npz", image=stored, spacing=np.ones(3, f"{byteorder}f8"))
        header = nibabel.Nifti1Header(endianness=byteorder)
        header.set_data_dtype(dtype)
        nibabel.Nifti1Image(stored, np.eye(4), header).to_filename(tmp_path / "a.nii")
        for path in tmp_path.iterdir():
            volume = read(path)
            assert volume.array.dtype.isnative
            assert volume.affine.dtype.isnative
            np.testing.assert_array_equal(volume.array, array)


# Every format


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    array = (RNG.random((40, 50)) * 255).astype(np.uint8)
    for suffix in WRITTEN:
        io.write_image(folder / f"image{suffix}", array, reversed_affine(np.ones(2)))
    return folder


@pytest.mark.parametrize("suffix", WRITTEN)
def test_missing_empty_and_damaged_files_are_refused_in_one_line(tmp_path, whole_files, suffix):
    path = tmp_path / f"image{suffix}"
    refused(path, "not found; give")
    path.mkdir()
    refused(path, "is a folder")
    with pytest.raises(UserError, match="is a folder"):
        io.write_image(path, np.zeros((4, 5)), np.eye(3))
    path.rmdir()
    path.touch()
    refused(path, "is empty")
    whole = (whole_files / path.name).read_bytes()
    for contents in (whole[: len(whole) // 2], whole[:20], b"no image, but a longer text\n" * 40):
        path.write_bytes(contents)
        refused(path, "damaged, or not a")


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_without_read_permission_is_refused(whole_files, suffix, monkeypatch):
    def deny(*arguments, **keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", deny)
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    refused(whole_files / f"image{suffix}", "may not be read")


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_failed_write_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"image{suffix}"
    io.write_image(path, np.ones((4, 5)), np.eye(3))
    before = path.read_bytes()

    def fail(partial, target):
        assert partial.stat().st_size > 0
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)") as error:
        io.write_image(path, np.zeros((4, 5)), np.eye(3))
    assert str(path) in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize(("value", "dtype"), [(np.nan, np.float32), (np.inf, np.float16), (1e300, np.float64)])
def test_values_that_are_not_finite_are_not_written(tmp_path, suffix, value, dtype):
    array = np.zeros((4, 5), dtype)
    array[1, 2:4] = value
    with pytest.raises(UserError, match=rf"image\{suffix}: 2 of 20 values are not finite"):
        io.write_image(tmp_path / f"image{suffix}", array, np.eye(3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("dtype", [complex, str, object])
def test_values_that_are_no_real_numbers_are_not_written(tmp_path, suffix, dtype):
    with pytest.raises(ValueError, match="write_image: array has dtype"):
        io.write_image(tmp_path / f"image{suffix}", np.ones((4, 5)).astype(dtype), np.eye(3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_a_finite_value_is_refused(tmp_path, value):
    np.save(tmp_path / "image.npy", np.full((4, 5), value))
    nibabel.Nifti1Image(np.full((4, 5, 6), value), np.eye(4)).to_filename(tmp_path / "image.nii")
    for name in ("image.npy", "image.nii"):
        refused(tmp_path / name, "has no finite value")


def test_unknown_endings_and_missing_folders_are_refused(tmp_path):
    refused(tmp_path / "image.vtk", r"\.nii, \.nii\.gz, \.mgz.*\.npz")
    with pytest.raises(UserError, match="must end in one of"):
        io.write_image(tmp_path / "image.gz", np.zeros((4, 5)), np.eye(3))
    for suffix in sorted(set(SUFFIXES) - set(WRITTEN)):
        with pytest.raises(UserError, match="such files are only read"):
            io.write_image(tmp_path / f"image{suffix}", np.zeros((4, 5)), np.eye(3))
    with pytest.raises(UserError, match="folder does not exist"):
        io.write_image(tmp_path / "none" / "image.nii", np.zeros((4, 5)), np.eye(3))


@pytest.mark.slow
def test_numpy_files_need_neither_nibabel_nor_pillow(tmp_path):
    program = """
import sys
import numpy as np
sys.modules["nibabel"] = sys.modules["PIL"] = None
from air_jax import UserError, io
io.write_image(f"{sys.argv[1]}/a.npy", np.zeros((4, 5)), np.eye(3))
open(f"{sys.argv[1]}/a.png", "w").write("any text")
for name in ("a.nii", "a.png"):
    try:
        io.read_image(f"{sys.argv[1]}/{name}")
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    nifti, picture = done.stdout.splitlines()
    assert "a.nii: needs nibabel" in nifti
    assert "a.png: needs pillow" in picture
    assert done.stdout.count("pip install 'air_jax[files]'") == 2
