"""Image and landmark files: what is written comes back, and ITK sees the same."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from scipy.spatial.transform import Rotation

from air_jax import UserError, io
from air_jax.io.image import SUFFIXES
from air_jax.io.space import reversed_affine

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
RNG = np.random.default_rng(0)


def shared(name):
    """A folder of the development data, which users do not have."""
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there")
    return DATA / name


def oblique_affine(num_axes):
    """Rotated about two axes (2-D: one), anisotropic, away from the origin."""
    turn = Rotation.from_euler("zx", [0.4, -0.25 if num_axes == 3 else 0]).as_matrix()
    affine = np.eye(num_axes + 1)
    affine[:-1, :-1] = turn[:num_axes, :num_axes] * np.array([0.8, 1.1, 2.5])[:num_axes]
    affine[:-1, -1] = np.array([-31.0, 12.5, 7.25])[:num_axes]
    return affine


def itk_affine(image):
    """Index to physical space as ITK computes it, told by its own function."""
    num_axes = image.GetDimension()
    origin = np.array(image.TransformContinuousIndexToPhysicalPoint([0.0] * num_axes))
    affine = np.eye(num_axes + 1)
    affine[:-1, -1] = origin
    for axis, unit in enumerate(np.eye(num_axes)):
        affine[:-1, axis] = np.array(image.TransformContinuousIndexToPhysicalPoint(unit.tolist())) - origin
    return affine


def check_against_itk(path):
    """Our reading of a file is ITK's; returns ours."""
    volume, image = io.read_image(path), SimpleITK.ReadImage(path)
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-5)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(volume.direction.ravel(), image.GetDirection(), atol=1e-6)
    return volume


def refused(path, match, read=io.read_image):
    """Reading the file gives one line that names it."""
    with pytest.raises(UserError, match=match) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


# NIfTI


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("shape", [(11, 9), (11, 9, 7)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_nifti_round_trip_and_itk(tmp_path, shape, dtype, suffix):
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
def test_nifti_of_simpleitk(tmp_path, num_axes):
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
def test_nifti_chooses_the_form_that_itk_chooses(tmp_path, qform_code, sform_code):
    qform, sform = np.diag([2.0, 3, 4, 1]), np.diag([2.0, 3, 4, 1])
    qform[:3, 3] = 9
    write_forms(tmp_path / "image.nii", qform, qform_code, sform, sform_code)
    check_against_itk(tmp_path / "image.nii")


def test_nifti_in_metres(tmp_path):
    affine = np.diag([0.002, 0.003, 0.004, 1])
    write_forms(tmp_path / "image.nii", affine, 1, affine, 1, unit="meter")
    check_against_itk(tmp_path / "image.nii")


def test_nifti_sheared(tmp_path):
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


def test_nifti_of_two_minds_or_singular(tmp_path):
    write_forms(tmp_path / "image.nii", np.eye(4), 0, np.diag([2.0, 3, 4, 1]), 2)
    refused(tmp_path / "image.nii", "different voxel sizes")
    flat = np.diag([1.0, 1, 0, 1])
    write_forms(tmp_path / "image.nii", np.eye(4), 0, flat, 2)
    refused(tmp_path / "image.nii", "not invertible")
    write_forms(tmp_path / "image.nii", np.eye(4), 0, flat, 1, (6, 5))
    np.testing.assert_array_equal(io.read_image(tmp_path / "image.nii").affine, np.diag([-1.0, -1, 1]))
    write_forms(tmp_path / "image.nii", np.eye(4), 0, flat * [0, 1, 1, 1], 1, (6, 5))
    refused(tmp_path / "image.nii", "not invertible")


def test_nifti_slices(tmp_path):
    """A slice is 2-D; where it is not in the x-y plane, ITK's and our way out."""
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


def test_nifti_types(tmp_path):
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


def test_nifti_refuses(tmp_path):
    path = tmp_path / "image.nii.gz"
    nibabel.Nifti1Image(np.zeros((4, 5, 6, 7), np.float32), np.eye(4)).to_filename(path)
    refused(path, r"\(4, 5, 6, 7\).*without time axis")
    nibabel.Nifti1Image(np.zeros((4, 5, 6, 1), np.float32), np.eye(4)).to_filename(path)
    assert io.read_image(path).shape == (4, 5, 6)
    colours = np.zeros((4, 5, 6), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nibabel.Nifti1Image(colours, np.eye(4)).to_filename(path)
    refused(path, "one channel")
    nibabel.Nifti1Image(np.zeros((4, 5, 6), np.complex64), np.eye(4)).to_filename(path)
    refused(path, "one channel")
    for array in (np.zeros((4, 5, 6, 2)), np.zeros((40000, 2, 2), np.uint8)):
        with pytest.raises(UserError, match="NIfTI"):
            io.write_image(tmp_path / "new.nii", array, np.eye(4))
    with pytest.raises(ValueError, match="does not fit"):
        io.write_image(tmp_path / "new.nii", np.zeros((4, 5)), np.eye(4))


# Pictures


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize(("shape", "dtype"), [((9, 11), np.uint8), ((9, 11), np.uint16), ((9, 11, 3), np.uint8)])
def test_picture_round_trip_and_itk(tmp_path, shape, dtype, suffix):
    array = (RNG.random(shape) * np.iinfo(dtype).max).astype(dtype)
    path = tmp_path / f"picture{suffix}"
    io.write_image(path, array, np.eye(3))
    volume = io.read_image(path)
    assert volume.array.dtype == dtype
    assert volume.shape == shape[:2]
    np.testing.assert_array_equal(volume.array, array)
    image = SimpleITK.ReadImage(path)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), array)
    # ITK counts (column, row).
    np.testing.assert_array_equal(volume.affine, itk_affine(image)[:, [1, 0, 2]])
    np.testing.assert_array_equal(io.to_physical([2, 5], volume.affine), [5, 2])


def test_picture_of_floats(tmp_path):
    io.write_image(tmp_path / "a.png", np.array([[-1, 0.1, 0.5], [1, 2, np.nan]])[..., None], np.eye(3))
    np.testing.assert_array_equal(io.read_image(tmp_path / "a.png").array, [[0, 26, 128], [255, 255, 0]])
    ramp = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    io.write_image(tmp_path / "a.jpg", ramp, np.eye(3))
    np.testing.assert_allclose(io.read_image(tmp_path / "a.jpg").array / 255, ramp, atol=0.02)
    for name, array in (
        ("b.png", np.zeros((4, 5), np.int32)),
        ("b.jpg", np.zeros((4, 5), np.uint16)),
        ("b.png", np.zeros((4, 5, 3), np.uint16)),
        ("b.png", np.zeros((4, 5, 2))),
    ):
        with pytest.raises(UserError, match="cannot hold"):
            io.write_image(tmp_path / name, array, np.eye(3))
    with pytest.raises(UserError, match="cannot hold"):
        io.write_image(tmp_path / "b.png", np.zeros((4, 5, 6)), np.eye(4))


def test_picture_modes(tmp_path):
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
    rotated[274] = 6  # "turn by 90 degrees to show", as telephones write
    colours.convert("RGB").save(tmp_path / "turned.jpg", exif=rotated)
    assert io.read_image(tmp_path / "turned.jpg").shape == (7, 8)


def test_picture_refuses(tmp_path, monkeypatch):
    pages = [Image.new("L", (4, 5)), Image.new("L", (4, 5))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    refused(tmp_path / "pages.tif", "2 pages")
    pages[0].save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    refused(tmp_path / "large.png", "more pixels.*make it smaller")


# NumPy files


def test_array_round_trip(tmp_path):
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
def test_array_refuses(tmp_path, arrays, match):
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", match)


def test_stack_round_trip(tmp_path):
    path = tmp_path / "stack.npz"
    image = RNG.random((3, 4, 5, 6)).astype(np.float32)
    label = (image > 0.5).astype(np.int32)
    io.write_stack(path, image, label, [1.0, 2.0, 3.0], ["train", "validation", "test"], [7, 8, 9])
    stack = io.read_stack(path)
    np.testing.assert_array_equal(stack.image, image)
    np.testing.assert_array_equal(stack.label, label)
    np.testing.assert_array_equal(stack.spacing, [[1, 2, 3]] * 3)
    assert stack.split.tolist() == ["train", "validation", "test"]
    assert stack.ids.tolist() == ["7", "8", "9"]
    assert stack.num_axes == 3

    io.write_stack(path, image, [0, 1, 2], np.ones((3, 2)))  # colours: [n, H, W, C]
    stack = io.read_stack(path)
    assert stack.num_axes == 2
    assert stack.split is stack.ids is None
    io.write_stack(path, image[0])
    assert io.read_stack(path).num_axes == 2
    assert [file.name for file in tmp_path.iterdir()] == ["stack.npz"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image": np.zeros((3, 4))}, r"image has shape \(3, 4\)"),
        ({"image": np.zeros((3, 4, 5, 6, 1))}, "spacing"),
        ({"label": np.zeros((3, 4, 5))}, "label is float64"),
        ({"label": np.zeros((3, 4, 6), np.int32)}, "label is int32"),
        ({"spacing": np.ones((2, 2))}, "spacing has shape"),
        ({"split": np.array(["train"] * 2)}, "one for each image"),
        ({"split": np.array(["train", "train", "training"])}, "'training'"),
        ({"ids": np.zeros((3, 1))}, "ids has shape"),
        ({"ids": np.array([{}, 1, 2], object)}, "damaged, or not a NumPy file"),
    ],
)
def test_stack_refuses(tmp_path, change, match):
    path = tmp_path / "stack.npz"
    np.savez(path, **({"image": np.zeros((3, 4, 5))} | change))
    refused(path, match, io.read_stack)


def test_stack_needs_its_ending(tmp_path):
    with pytest.raises(UserError, match=r"\.npz"):
        io.write_stack(tmp_path / "stack.npy", np.zeros((3, 4, 5)))


# Every kind


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    array = (RNG.random((40, 50)) * 255).astype(np.uint8)
    for suffix in SUFFIXES:
        io.write_image(folder / f"image{suffix}", array, reversed_affine(np.ones(2)))
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unreadable_files(tmp_path, whole_files, suffix):
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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_permission(whole_files, suffix, monkeypatch):
    def deny(*arguments, **keywords):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", deny)
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    refused(whole_files / f"image{suffix}", "may not be read")


@pytest.mark.parametrize("suffix", SUFFIXES)
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


def test_names(tmp_path):
    refused(tmp_path / "image.mha", r"\.nii, \.nii\.gz, \.png.*\.npz")
    with pytest.raises(UserError, match="must end in one of"):
        io.write_image(tmp_path / "image.gz", np.zeros((4, 5)), np.eye(3))
    with pytest.raises(UserError, match="folder does not exist"):
        io.write_image(tmp_path / "none" / "image.nii", np.zeros((4, 5)), np.eye(3))


def test_libraries_are_imported_late(tmp_path):
    """Without nibabel and Pillow all else works, and what needs them says so."""
    program = """
import sys
import numpy as np
sys.modules["nibabel"] = sys.modules["PIL"] = None
from air_jax import UserError, io
io.write_image(f"{sys.argv[1]}/a.npy", np.zeros((4, 5)), np.eye(3))
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


# Landmarks


@pytest.mark.parametrize("num_axes", [2, 3])
def test_landmarks_round_trip(tmp_path, num_axes):
    points = RNG.normal(size=(6, num_axes)) * 100
    io.write_landmarks(tmp_path / "points.csv", points)
    assert (tmp_path / "points.csv").read_text().startswith("x,y,z\n"[: 2 * num_axes - 1] + "\n")
    np.testing.assert_array_equal(io.read_landmarks(tmp_path / "points.csv"), points)
    affine = oblique_affine(num_axes)
    voxels = io.to_voxels(points, affine)
    np.testing.assert_allclose(io.to_physical(voxels, affine), points, rtol=1e-12)
    image = SimpleITK.Image([3] * num_axes, SimpleITK.sitkUInt8)
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
    theirs = [image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in points]
    np.testing.assert_allclose(voxels, theirs, atol=1e-9)
    with pytest.raises(ValueError, match="must be"):
        io.write_landmarks(tmp_path / "points.csv", points[0])


@pytest.mark.parametrize(
    ("text", "points"),
    [
        (",X,Y\n1,59,72\n2,122,108\n", [[59, 72], [122, 108]]),
        ("x,y,z,t,label,comment\n1,2,3,0,1,a;b\n4,5,6,0,2,c\n", [[1, 2, 3], [4, 5, 6]]),
        ("Z;name;Y;X\n3;a;2;1\n", [[1, 2, 3]]),
        ("\ufeffx\ty\r\n1.5\t-2e1\r\n\r\n", [[1.5, -20]]),
        ('"x", "y"\n 1 , 2\n', [[1, 2]]),
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1;2;3\n", [[1, 2, 3]]),
    ],
)
def test_landmarks_of_others(tmp_path, text, points):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8", newline="")
    read = io.read_landmarks(tmp_path / "points.csv")
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, points)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("\n\n", "no landmarks"),
        ("x,y\n", "no landmarks"),
        ("x,z\n1,2\n", "line 1: the header"),
        ("x,y,X\n1,2,3\n", "line 1: the header"),
        ("1,2,3,4\n", "line 1: has 4 numbers"),
        ("x,y\n1,2\n3\n", "line 3: has 1 columns"),
        ("x,y\n1,2\n\n3,four\n", "line 4: 'four' is not a number"),
        ("x,y\n1,nan\n", "line 2: 'nan'"),
        ("1,2\n3,\n", "line 2: ''"),
    ],
)
def test_landmarks_refuses(tmp_path, text, match):
    (tmp_path / "points.csv").write_text(text)
    refused(tmp_path / "points.csv", match, io.read_landmarks)


def test_landmarks_unreadable(tmp_path):
    refused(tmp_path / "points.csv", "not found", io.read_landmarks)
    (tmp_path / "points.csv").write_bytes(b"\xff\xfe\x00x\n" * 9)
    refused(tmp_path / "points.csv", "damaged, or not a text file", io.read_landmarks)


# Real files


def test_hippocampus_nifti():
    folder = shared("hippocampus_msd")
    paths = sorted((folder / "nifti").glob("*.nii.gz"))
    assert len(paths) == 10
    for path in paths:
        volume = check_against_itk(path)
        assert volume.array.dtype == nibabel.load(path).get_data_dtype()
        if "label" in path.name:  # one of them is stored as float32
            assert np.unique(volume.array).tolist() == [0, 1, 2]


def test_hippocampus_stack():
    stack = io.read_stack(shared("hippocampus_msd") / "hippocampus_48x64x48.npz")
    assert stack.image.shape == stack.label.shape == (230, 48, 64, 48)
    assert stack.num_axes == 3
    assert (stack.split == "validation").sum() == 30
    assert stack.ids[0] == "001"


def test_brains_stack():
    stack = io.read_stack(shared("brains_synthseg") / "brains20_2mm.npz")
    assert stack.image.shape == stack.label.shape == (20, 80, 96, 80)
    assert stack.ids[1] == "2"
    assert stack.spacing is stack.split is None


def test_histology_pictures_and_landmarks():
    paths = sorted(shared("histology_landmarks").glob("*/*.csv"))
    assert len(paths) == 9
    for path in paths:
        picture = io.read_image(path.with_suffix(".jpg"))
        theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path.with_suffix(".jpg")))
        assert picture.array.shape == theirs.shape
        # Two JPEG decoders interpolate the colours differently.
        assert np.abs(picture.array.astype(int) - theirs).mean() < 2
        points = io.read_landmarks(path)
        np.testing.assert_array_equal(points, np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:])
        voxels = io.to_voxels(points, picture.affine)
        np.testing.assert_array_equal(voxels, points[:, ::-1])
        assert ((voxels >= 0) & (voxels < picture.shape)).all()
