"""The affine's parts and its file, against matrices that are made of known parts and against SimpleITK."""

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from air_jax import UserError, io
from air_jax.file_registration.affine_parts import decompose
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.file_transforms.options import Options as ApplyOptions
from air_jax.file_transforms.run import apply_transforms
from air_jax.io.transform import AffineMap, read_transform, write_affine


@pytest.mark.parametrize("mirrored", [False, True])
def test_known_parts_of_a_volumes_affine_are_found(mirrored):
    degrees, scales, centre = [10.0, -20.0, 30.0], [1.1, 0.9, 1.3], np.array([5.0, -3.0, 8.0])
    stretch = np.diag(scales)
    stretch[0, 1] = stretch[1, 0] = 0.11
    linear = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ stretch
    if mirrored:
        linear = linear @ np.diag([-1, 1, 1])
    offset = centre + np.array([1.0, 2.0, -3.0]) - linear @ centre
    found = decompose(np.concatenate([linear, offset[:, None]], axis=1), centre)
    np.testing.assert_allclose(found["rotation_degrees"], degrees, atol=1e-5)
    np.testing.assert_allclose(found["scales"], scales, atol=1e-5)
    np.testing.assert_allclose(found["shears"], [0.1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(found["translation"], [1, 2, -3], atol=1e-5)
    assert found["mirrored"] == mirrored


def test_known_parts_of_a_pictures_affine_are_found():
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = decompose(np.concatenate([1.2 * turn, [[4.0], [5.0]]], axis=1), np.zeros(2))
    np.testing.assert_allclose(found["rotation_degrees"], [25], atol=1e-5)
    np.testing.assert_allclose(found["scales"], [1.2, 1.2], atol=1e-5)
    assert found["translation"] == [4, 5]


@pytest.mark.parametrize("ending", [".mat", ".tfm", ".txt", ".h5"])
@pytest.mark.parametrize("num_axes", [2, 3])
def test_an_affine_file_is_that_of_simpleitk_and_comes_back(tmp_path, num_axes, ending):
    rng = np.random.default_rng(0)
    matrix = np.concatenate(
        [np.eye(num_axes) + 0.2 * rng.standard_normal((num_axes, num_axes)), rng.random((num_axes, 1))], 1
    )
    write_affine(tmp_path / f"a{ending}", matrix)
    (part,), _ = read_transform(tmp_path / f"a{ending}")
    assert isinstance(part, AffineMap)
    np.testing.assert_allclose(part.matrix, matrix, atol=1e-12)
    points = rng.standard_normal((5, num_axes))
    itk = SimpleITK.ReadTransform(str(tmp_path / f"a{ending}"))
    expected = [itk.TransformPoint(point.tolist()) for point in points]
    np.testing.assert_allclose(points @ matrix[:, :-1].T + matrix[:, -1], expected, atol=1e-12)


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Two pictures that differ by a translation and a small turn, registered; the folder of all files."""
    folder = tmp_path_factory.mktemp("registered")
    rows, columns = np.indices((40, 44))

    def picture(turn, shift):
        y, x = rows - 20 - shift, columns - 22
        y, x = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
        return np.exp(-((y / 6) ** 2) - (x / 11) ** 2) + np.exp(-(((y - 8) / 3) ** 2) - ((x - 6) / 3) ** 2)

    for name, array in (("fixed", picture(0, 0)), ("moving", picture(0.1, 3))):
        io.write_image(folder / f"{name}.nii.gz", array.astype(np.float32), np.diag([1.5, 1.5, 1.0]))
    options = Options(folder / "fixed.nii.gz", folder / "moving.nii.gz", folder / "out", affine="rigid", refine_steps=2)
    return folder, register_files(options)


@pytest.mark.slow
def test_the_affine_and_the_deformation_make_the_whole(registered):
    folder, scores = registered
    out = folder / "out"
    (affine,), _ = read_transform(out / "affine.mat")
    np.testing.assert_allclose(affine.matrix, scores["affine"]["matrix"], atol=1e-9)
    moving = (folder / "moving.nii.gz",)
    for transforms, name in (((out / "deformation.nii.gz", out / "affine.mat"), "two"), ((out,), "one")):
        apply_transforms(ApplyOptions(transforms, moving, folder / f"{name}.nii.gz", reference=folder / "fixed.nii.gz"))
    two, one = (io.read_image(folder / f"{name}.nii.gz").array for name in ("two", "one"))
    np.testing.assert_allclose(two, one, atol=1e-4)
    parts = [
        SimpleITK.ReadTransform(str(out / "affine.mat")),
        SimpleITK.DisplacementFieldTransform(
            SimpleITK.ReadImage(str(out / "deformation.nii.gz"), SimpleITK.sitkVectorFloat64)
        ),
    ]
    images = (SimpleITK.ReadImage(str(folder / f"{name}.nii.gz")) for name in ("moving", "fixed"))
    expected = SimpleITK.Resample(*images, SimpleITK.CompositeTransform(parts), SimpleITK.sitkLinear)
    np.testing.assert_allclose(two, SimpleITK.GetArrayFromImage(expected).T, atol=1e-4)


@pytest.mark.slow
def test_a_registration_starts_from_a_transform(registered):
    folder, scores = registered
    files = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    nothing = dict(affine="none", refine_steps=0)
    again = register_files(Options(*files, folder / "from_affine", initial=folder / "out" / "affine.mat", **nothing))
    np.testing.assert_allclose(again["affine"]["matrix"], scores["affine"]["matrix"], atol=1e-6)
    for initial in (folder / "out", folder / "out" / "displacement.nii.gz"):
        name = f"from_{initial.name}"
        whole = register_files(Options(*files, folder / name, initial=initial, refine_steps=0))
        np.testing.assert_allclose(whole["after"]["mse"], scores["after"]["mse"], rtol=1e-3)
        fields = [io.read_field(folder / one / "displacement.nii.gz")[0] for one in (name, "out")]
        np.testing.assert_allclose(*fields, atol=2e-3)


@pytest.mark.slow
def test_it_stops_after_the_affine(registered):
    folder, scores = registered
    files = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    stopped = register_files(Options(*files, folder / "stopped", affine="rigid", stop_after="affine"))
    np.testing.assert_allclose(stopped["affine"]["matrix"], scores["affine"]["matrix"], atol=1e-6)
    assert not np.any(io.read_field(folder / "stopped" / "deformation.nii.gz")[0])
    assert np.any(io.read_field(folder / "stopped" / "displacement.nii.gz")[0])
    with pytest.raises(UserError, match="--refine_steps is of the deformation, before which --stop_after=affine stops"):
        register_files(Options(*files, folder / "other", stop_after="affine", refine_steps=3))
    with pytest.raises(UserError, match="--similarity is of the deformation, before which --stop_after=affine stops"):
        register_files(Options(*files, folder / "other", stop_after="affine", similarity="mi"))
    with pytest.raises(UserError, match="--stop_after=rigid: must be one of affine"):
        register_files(Options(*files, folder / "other", stop_after="rigid"))
