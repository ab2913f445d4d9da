"""Displacement field files: ITK and ANTs apply them as this library does."""

import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
import scipy.ndimage
import SimpleITK
from scipy.spatial.transform import Rotation

from air_jax import UserError, io, transforms
from air_jax.io.space import reversed_affine

# Shape, spacing and rotation of the fixed and of the moving grid, which have only their middle in common.
GRIDS = {
    2: (((45, 38), (0.9, 1.2), 0.3), ((52, 40), (1.0, 0.8), -0.5)),
    3: (((23, 19, 16), (0.9, 1.2, 1.5), (0.2, -0.3, 0.25)), ((26, 21, 18), (1.1, 0.8, 1.3), (-0.3, 0.1, 0.4))),
}
CENTRE = np.array([12.0, -7.0, 31.0])


def grid_affine(shape, spacing, rotation):
    """Returns the affine of a rotated grid whose middle lies at `CENTRE`."""
    num_axes = len(shape)
    turn = (0, 0, rotation) if num_axes == 2 else rotation
    affine = np.eye(num_axes + 1)
    affine[:-1, :-1] = Rotation.from_rotvec(turn).as_matrix()[:num_axes, :num_axes] * spacing
    affine[:-1, -1] = CENTRE[:num_axes] - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    return affine


def smooth(shape, seed):
    noise = np.random.default_rng(seed).standard_normal(shape)
    smoothed = scipy.ndimage.gaussian_filter(noise, 2.5)
    return (smoothed / np.abs(smoothed).max()).astype(np.float32)


@pytest.fixture(params=["2d", "3d", "2d_rows_first", "3d_slices_first"], scope="module")
def pair(request, tmp_path_factory):
    """Writes both images and a displacement; warps the moving image with our sampler."""
    folder = tmp_path_factory.mktemp(request.param)
    (fixed_shape, *fixed_grid), (moving_shape, *moving_grid) = GRIDS[int(request.param[0])]
    fixed_affine, moving_affine = grid_affine(fixed_shape, *fixed_grid), grid_affine(moving_shape, *moving_grid)
    if request.param.endswith("first"):  # arrays whose last axis is x, like those of pictures and NumPy files
        axes = np.eye(len(fixed_affine))[[*range(len(fixed_affine) - 1)[::-1], -1]]
        fixed_shape, moving_shape = fixed_shape[::-1], moving_shape[::-1]
        fixed_affine, moving_affine = fixed_affine @ axes, moving_affine @ axes
    moving = smooth(moving_shape, 0) + 2
    displacement = np.stack([smooth(fixed_shape, 1 + axis) for axis in range(len(fixed_shape))], -1) * 3
    io.write_image(folder / "fixed.nii.gz", np.ones(fixed_shape, np.float32), fixed_affine)
    io.write_image(folder / "moving.nii.gz", moving, moving_affine)
    io.write_field(folder / "field.nii.gz", displacement, fixed_affine)

    points = np.stack(np.indices(fixed_shape), -1) + displacement.astype(np.float64)
    coordinates = io.to_voxels(io.to_physical(points, fixed_affine), moving_affine)
    warped = transforms.sample(jnp.asarray(moving[None, ..., None]), jnp.asarray(coordinates[None], jnp.float32))
    last = np.array(moving_shape) - 1
    inside = ((coordinates >= 1e-3) & (coordinates <= last - 1e-3)).all(-1)
    assert inside.mean() > 0.5
    return folder, displacement, fixed_affine, np.asarray(warped)[0, ..., 0], inside


def test_simpleitk_warps_with_our_field_as_we_do(pair):
    folder, _, _, warped, inside = pair
    fixed, moving = (SimpleITK.ReadImage(folder / name) for name in ("fixed.nii.gz", "moving.nii.gz"))
    field = SimpleITK.ReadImage(folder / "field.nii.gz", SimpleITK.sitkVectorFloat64)
    assert field.GetDimension() == warped.ndim
    resampled = SimpleITK.Resample(moving, fixed, SimpleITK.DisplacementFieldTransform(field), SimpleITK.sitkLinear)
    difference = np.abs(SimpleITK.GetArrayFromImage(resampled).T - warped)[inside]
    assert difference.max() < 1e-4


@pytest.mark.slow
def test_ants_warps_with_our_field_as_we_do(pair):
    ants = pytest.importorskip("ants", reason="antspyx is not installed")
    folder, _, _, warped, inside = pair
    fixed, moving = (ants.image_read(str(folder / name)) for name in ("fixed.nii.gz", "moving.nii.gz"))
    resampled = ants.apply_transforms(fixed, moving, [str(folder / "field.nii.gz")], interpolator="linear")
    difference = np.abs(resampled.numpy() - warped)[inside]
    assert difference.max() < 1e-4


def test_a_written_field_is_read_back(pair):
    folder, displacement, affine, _, _ = pair
    read, read_affine = io.read_field(folder / "field.nii.gz")
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, displacement, atol=2e-6)
    np.testing.assert_allclose(read_affine, affine, atol=1e-5)


def test_fields_of_simpleitk_are_read(pair):
    """SimpleITK writes vectors in mm, float64; we read them in voxels."""
    folder, displacement, affine, _, _ = pair
    vectors = displacement.astype(np.float64) @ affine[:-1, :-1].T
    num_axes = displacement.shape[-1]
    # SimpleITK's arrays have x last.
    image = SimpleITK.GetImageFromArray(np.transpose(vectors, (*range(num_axes)[::-1], num_axes)), isVector=True)
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, folder / "theirs.nii")
    read, read_affine = io.read_field(folder / "theirs.nii")
    np.testing.assert_allclose(read, displacement, atol=1e-5)
    np.testing.assert_allclose(read_affine, affine, atol=1e-5)


def test_fields_of_ants_are_read(pair):
    """ANTs rewrites our file with its own writer."""
    ants = pytest.importorskip("ants", reason="antspyx is not installed")
    folder, displacement, affine, _, _ = pair
    image = ants.image_read(str(folder / "field.nii.gz"))
    ants.image_write(image, str(folder / "ants.nii.gz"))
    read, read_affine = io.read_field(folder / "ants.nii.gz")
    np.testing.assert_allclose(read, displacement, atol=1e-5)
    np.testing.assert_allclose(read_affine, affine, atol=1e-5)


def test_the_header_marks_a_vector_image_in_mm(pair):
    folder, displacement, _, _, _ = pair
    header = nibabel.load(folder / "field.nii.gz").header
    num_axes = displacement.shape[-1]
    assert header.get_data_shape() == (*displacement.shape[:-1], *(1,) * (4 - num_axes), num_axes)
    assert header["intent_code"] == 1007
    assert header["sform_code"] == header["qform_code"] == 1
    assert header.get_xyzt_units()[0] == "mm"


def one_line(error, path):
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("kind", ["scalar", "series", "colours", "two components in 3-D"])
def test_an_image_is_refused_as_a_field(tmp_path, kind):
    path = tmp_path / "image.nii.gz"
    if kind == "scalar":
        io.write_image(path, np.zeros((4, 5, 6), np.float32), np.eye(4))
    elif kind == "series":
        nibabel.Nifti1Image(np.zeros((4, 5, 6, 3), np.float32), np.eye(4)).to_filename(path)
    else:
        pixels = np.zeros((6, 5, 4, 3), np.uint8) if kind == "colours" else np.zeros((6, 5, 4, 2), np.float32)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), path)
    with pytest.raises(UserError, match="not a displacement field") as error:
        io.read_field(path)
    one_line(error, path)


def test_a_field_is_refused_as_an_image(tmp_path):
    path = tmp_path / "field.nii.gz"
    io.write_field(path, np.zeros((4, 5, 2)), reversed_affine(np.ones(2)))
    with pytest.raises(UserError, match=r"\(4, 5, 1, 1, 2\)") as error:
        io.read_image(path)
    one_line(error, path)


def test_write_field_refuses_sheared_affines_wrong_shapes_and_other_endings(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.1
    path = tmp_path / "field.nii.gz"
    with pytest.raises(UserError, match="sheared") as error:
        io.write_field(path, np.zeros((4, 5, 6, 3)), sheared)
    one_line(error, path)
    with pytest.raises(ValueError, match="must be"):
        io.write_field(path, np.zeros((4, 5, 6, 3)), np.eye(3))
    with pytest.raises(UserError, match=r"\.nii\.gz") as error:
        io.write_field(tmp_path / "field.npz", np.zeros((4, 5, 2)), np.eye(3))
    one_line(error, tmp_path / "field.npz")
    assert not list(tmp_path.iterdir())
