"""Saved transforms applied to files, beside SimpleITK on the same files."""

import itertools

import numpy as np
import pytest
import SimpleITK
from helpers import oblique_affine
from scipy.ndimage import gaussian_filter

from air_jax import UserError, io
from air_jax.file_transforms.chain import affine_and_deformation
from air_jax.file_transforms.options import Options
from air_jax.file_transforms.run import apply_transforms
from air_jax.io.space import reversed_affine
from air_jax.io.transform import write_affine


def smooth(rng, shape, scale):
    return scale * gaussian_filter(rng.standard_normal(shape), 3) / 0.05


def grids(num_axes):
    """An oblique fixed grid, and a mirrored moving grid of another size, which overlap."""
    fixed, moving = oblique_affine(num_axes), oblique_affine(num_axes)
    shape, moving_shape = (21, 17, 9)[:num_axes], (18, 20, 11)[:num_axes]
    moving[:-1, 0] *= -1.1
    centre = fixed @ np.append((np.array(shape) - 1) / 2, 1)
    moving[:-1, -1] += centre[:-1] - (moving @ np.append((np.array(moving_shape) - 1) / 2, 1))[:-1]
    return shape, fixed, moving_shape, moving


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def files(request, tmp_path):
    """A folder with an image, a segmentation, a reference, a field, an affine and a composite of both."""
    rng = np.random.default_rng(0)
    num_axes = request.param
    shape, fixed, moving_shape, moving = grids(num_axes)
    io.write_image(tmp_path / "fixed.nii.gz", np.zeros(shape, np.float32), fixed)
    image = rng.random(moving_shape).astype(np.float32)
    io.write_image(tmp_path / "moving.nii.gz", image, moving)
    labels = (3 * (smooth(rng, moving_shape, 1) > 0)).astype(np.uint16) + (image > 0.8)
    io.write_segmentation(tmp_path / "labels.nii.gz", labels, moving)
    field = np.stack([smooth(rng, shape, 1.5) for _ in range(num_axes)], axis=-1).astype(np.float32)
    io.write_field(tmp_path / "field.nii.gz", field, fixed)
    turn = np.eye(num_axes) + 0.1 * rng.standard_normal((num_axes, num_axes))
    centre = fixed[:-1] @ np.append((np.array(shape) - 1) / 2, 1)
    matrix = np.concatenate([turn, (centre - turn @ centre + 0.7)[:, None]], axis=1)
    write_affine(tmp_path / "affine.mat", matrix)
    write_affine(tmp_path / "affine.tfm", matrix)
    composite = SimpleITK.CompositeTransform([affine_of(tmp_path), field_of(tmp_path)])  # ITK applies the last first
    SimpleITK.WriteTransform(composite, str(tmp_path / "both.h5"))
    return tmp_path


def affine_of(folder):
    return SimpleITK.ReadTransform(str(folder / "affine.mat"))


def field_of(folder):
    field = SimpleITK.ReadImage(str(folder / "field.nii.gz"), SimpleITK.sitkVectorFloat64)
    return SimpleITK.DisplacementFieldTransform(field)


def resampled(folder, name, transform, interpolator, background=0.0):
    """What SimpleITK makes of an image, in index order."""
    image = SimpleITK.ReadImage(str(folder / name))
    reference = SimpleITK.ReadImage(str(folder / "fixed.nii.gz"))
    result = SimpleITK.Resample(image, reference, transform, interpolator, background)
    return SimpleITK.GetArrayFromImage(result).T


def applied(folder, transforms, name, **options):
    output = folder / "output.nii.gz"
    apply_transforms(
        Options(
            tuple(folder / transform for transform in transforms),
            (folder / name,),
            output,
            reference=folder / "fixed.nii.gz",
            **options,
        )
    )
    found, reference = SimpleITK.ReadImage(str(output)), SimpleITK.ReadImage(str(folder / "fixed.nii.gz"))
    np.testing.assert_allclose(found.GetDirection(), reference.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), reference.GetOrigin(), rtol=1e-6)
    return SimpleITK.GetArrayFromImage(found).T


CHAINS = {
    ("affine.mat",): lambda folder: affine_of(folder),
    ("affine.tfm",): lambda folder: affine_of(folder),
    ("field.nii.gz",): lambda folder: field_of(folder),
    ("field.nii.gz", "affine.mat"): lambda folder: SimpleITK.CompositeTransform([affine_of(folder), field_of(folder)]),
    ("affine.mat", "field.nii.gz"): lambda folder: SimpleITK.CompositeTransform([field_of(folder), affine_of(folder)]),
    ("both.h5",): lambda folder: SimpleITK.ReadTransform(str(folder / "both.h5")),
}


@pytest.mark.slow
@pytest.mark.parametrize("transforms", CHAINS, ids="+".join)
def test_images_are_those_of_simpleitk(files, transforms):
    transform = CHAINS[transforms](files)
    found = applied(files, transforms, "moving.nii.gz", background=-1.0)
    expected = resampled(files, "moving.nii.gz", transform, SimpleITK.sitkLinear, -1.0)
    assert (expected != -1).mean() > 0.3
    differs = abs(found - expected) > 1e-4
    assert differs.mean() < 2e-3  # voxels whose sample lies on the very edge, half a voxel beyond the last centre
    assert abs((found - expected)[~differs]).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("interpolation", "name"), [("nearest", "sitkNearestNeighbor"), ("label", "sitkLabelLinear")])
def test_segmentations_are_those_of_simpleitk(files, interpolation, name):
    if not hasattr(SimpleITK, name):
        pytest.skip(f"this SimpleITK has no {name}")
    transforms = ("field.nii.gz", "affine.mat")
    found = applied(files, transforms, "labels.nii.gz", interpolation=interpolation)
    expected = resampled(files, "labels.nii.gz", CHAINS[transforms](files), getattr(SimpleITK, name))
    assert found.dtype == np.uint16
    assert set(np.unique(expected)) == {0, 1, 3, 4}
    assert (found == expected).mean() > 0.998  # ties


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interpolation", "name"), [("linear", "linear"), ("nearest", "nearestNeighbor"), ("label", "genericLabel")]
)
def test_results_are_those_of_ants(files, interpolation, name):
    ants = pytest.importorskip("ants")
    image = "moving.nii.gz" if interpolation == "linear" else "labels.nii.gz"
    transforms = ("field.nii.gz", "affine.mat")
    found = applied(files, transforms, image, interpolation=interpolation)
    expected = ants.apply_transforms(
        ants.image_read(str(files / "fixed.nii.gz")),
        ants.image_read(str(files / image)),
        [str(files / transform) for transform in transforms],
        interpolator=name,
    ).numpy()
    assert len(np.unique(expected)) > 3
    assert (abs(found - expected) < 1e-4).mean() > 0.998  # ties and samples on the very edge


def test_label_ids_stay_exact(files):
    volume = io.read_segmentation(files / "labels.nii.gz")
    ids = np.array([0, 2**40 + 1, 5, -(2**50), 2**40 + 2], np.int64)
    io.write_segmentation(files / "ids.nii.gz", ids[volume.array], volume.affine)
    for interpolation in ("nearest", "label"):
        small = applied(files, ("affine.mat",), "labels.nii.gz", interpolation=interpolation)
        found = applied(files, ("affine.mat",), "ids.nii.gz", interpolation=interpolation)
        assert found.dtype == np.int64
        if interpolation == "nearest":
            np.testing.assert_array_equal(found, ids[small])
        assert set(np.unique(found)) == set(ids[np.unique(small)])


@pytest.mark.slow
def test_points_move_with_their_image(files):
    """Points of the moving image go where ITK's transform comes from; with the inverse, where it leads to."""
    transforms = ("field.nii.gz", "affine.mat")
    transform = CHAINS[transforms](files)
    reference = SimpleITK.ReadImage(str(files / "fixed.nii.gz"))
    size = reference.GetSize()
    indices = itertools.product(*([0.25 * n, 0.6 * n] for n in size))
    fixed = np.array([reference.TransformContinuousIndexToPhysicalPoint(index) for index in indices])
    moving = np.array([transform.TransformPoint(point) for point in fixed.tolist()])
    paths = tuple(files / name for name in transforms)
    io.write_landmarks(files / "fixed.csv", fixed)
    apply_transforms(Options(paths, (files / "fixed.csv",), files / "out.csv", inverse=True))
    np.testing.assert_allclose(io.read_landmarks(files / "out.csv"), moving, atol=1e-3)
    io.write_landmarks(files / "moving.csv", moving)
    apply_transforms(Options(paths, (files / "moving.csv",), files / "out.csv"))
    np.testing.assert_allclose(io.read_landmarks(files / "out.csv"), fixed, atol=1e-2)


@pytest.mark.slow
def test_the_inverse_of_an_image_undoes_the_transform(files):
    """A smooth image carried to the fixed grid and back is itself where the fixed image shows it."""
    volume = io.read_image(files / "moving.nii.gz")
    image = gaussian_filter(np.pad(np.ones(np.array(volume.shape) - 8), 4), 1.5).astype(np.float32)
    io.write_image(files / "smooth.nii.gz", image, volume.affine)
    paths = (files / "field.nii.gz", files / "affine.mat")
    there, back = files / "there.nii.gz", files / "back.nii.gz"
    apply_transforms(Options(paths, (files / "smooth.nii.gz",), there, reference=files / "fixed.nii.gz"))
    apply_transforms(Options(paths, (there,), back, reference=files / "smooth.nii.gz", inverse=True))
    ones = files / "ones.nii.gz"
    io.write_image(ones, np.ones_like(io.read_image(there).array), io.read_image(there).affine)
    apply_transforms(Options(paths, (ones,), files / "seen.nii.gz", reference=files / "smooth.nii.gz", inverse=True))
    seen = io.read_image(files / "seen.nii.gz").array > 0
    assert seen.mean() > 0.3
    error = abs(io.read_image(back).array - image)[seen]
    assert np.percentile(error, 95) < 0.1
    assert error.mean() < 0.04  # two interpolations smooth the image


@pytest.mark.slow
def test_b_splines_of_elastix_are_evaluated_on_the_reference(files):
    reference = SimpleITK.ReadImage(str(files / "fixed.nii.gz"))
    transform = SimpleITK.BSplineTransformInitializer(reference, [3] * reference.GetDimension())
    parameters = np.random.default_rng(1).uniform(-1, 1, len(transform.GetParameters()))
    transform.SetParameters(parameters.tolist())
    SimpleITK.WriteTransform(transform, str(files / "bspline.tfm"))
    found = applied(files, ("bspline.tfm",), "moving.nii.gz")
    expected = resampled(files, "moving.nii.gz", transform, SimpleITK.sitkLinear)
    assert (abs(found - expected) > 1e-4).mean() < 2e-3
    with pytest.raises(
        UserError, match=r"bspline\.tfm: BSplineTransform is evaluated on an image's voxels; give --ref"
    ):
        apply_transforms(Options((files / "bspline.tfm",), (files / "moving.nii.gz",), files / "o.nii.gz"))


def test_several_inputs_go_into_a_folder_with_their_names(files):
    inputs = (files / "moving.nii.gz", files / "labels.nii.gz")
    apply_transforms(Options((files / "field.nii.gz",), inputs, files / "folder"))
    assert {path.name for path in (files / "folder").iterdir()} == {"moving.nii.gz", "labels.nii.gz"}
    np.testing.assert_array_equal(
        io.read_image(files / "folder" / "moving.nii.gz").array, applied(files, ("field.nii.gz",), "moving.nii.gz")
    )


@pytest.mark.parametrize("shape", [(320, 320, 20), (400, 300), (90, 90, 90)])
def test_the_affine_of_a_map_is_found_on_grids_of_any_shape(shape):
    rng = np.random.default_rng(0)
    points = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, len(shape)).astype(np.float64)
    linear = np.eye(len(shape)) + 0.1 * rng.standard_normal((len(shape),) * 2)
    matrix, left = affine_and_deformation(points, points @ linear.T + 3.0)
    np.testing.assert_allclose(matrix, np.c_[linear, np.full(len(shape), 3.0)], atol=1e-9)
    assert np.abs(left).max() < 1e-8


def test_pictures_round_and_refuse_a_background_that_they_cannot_hold(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (12, 14), dtype=np.uint8)
    io.write_image(tmp_path / "picture.png", picture, reversed_affine(np.ones(2)))
    write_affine(tmp_path / "shift.mat", np.array([[1.0, 0.0, 5.0], [0.0, 1.0, 0.0]]))
    files = (tmp_path / "shift.mat",), (tmp_path / "picture.png",), tmp_path / "o.png"
    apply_transforms(Options(*files, reference=tmp_path / "picture.png", background=254.6))
    moved = io.read_image(tmp_path / "o.png").array
    np.testing.assert_array_equal(moved, np.c_[picture[:, 5:], np.full((12, 5), 255)])
    for background in (300.0, -5.0):
        with pytest.raises(UserError, match=f"--background={background}: .*has values from 0 to 255"):
            apply_transforms(Options(*files, reference=tmp_path / "picture.png", background=background))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "cubic"}, "--interpolation=cubic: must be one of linear, nearest, label"),
        ({"output": "moving.nii.gz"}, r"--output=.*moving\.nii\.gz: is read by this command"),
        ({"output": "nowhere/o.nii.gz"}, r"its folder does not exist; make it first"),
        ({"output": "o.csv"}, r"has an image; give a name of the same kind"),
        ({"transforms": ("affine.mat",)}, "--reference must be given"),
        ({"transforms": ("nothing.mat",)}, r"nothing\.mat: not found"),
        ({"transforms": ("moving.nii.gz",)}, "is not a displacement field"),
        ({"transforms": ("fsl.mat",)}, "is a matrix of FSL"),
        ({"transforms": ("text.txt",)}, r"text\.txt: damaged, or not a transform"),
        ({"transforms": ("image.png",)}, "unknown kind of transform"),
        ({"transforms": (".",)}, r"has no displacement\.nii\.gz; give a folder that `register` wrote"),
        ({"transforms": ("far.tfm",), "reference": "fixed.nii.gz"}, "no voxel of the result lies in it"),
        ({"background": 0.5, "interpolation": "label"}, "--background=0.5: must be a whole number"),
        ({"background": -1.0, "interpolation": "label", "inputs": ("labels.nii.gz",)}, "from 0 to 65535 here"),
    ],
)
def test_mistakes_are_told_in_one_line(files, change, message):
    (files / "fsl.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (files / "text.txt").write_text("hello\n")
    (files / "image.png").touch()
    num_axes = io.read_image(files / "fixed.nii.gz").num_axes
    write_affine(files / "far.tfm", np.concatenate([np.eye(num_axes), np.full((num_axes, 1), 1e4)], axis=1))
    options = {"transforms": ("field.nii.gz",), "inputs": ("moving.nii.gz",), "output": "o.nii.gz"} | change
    for name in ("transforms", "inputs"):
        options[name] = tuple(files / path for path in options[name])
    for name in {"output", "reference"} & set(options):
        options[name] = files / options[name]
    before = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=message) as error:
        apply_transforms(Options(**options))
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in files.iterdir() if path.is_file()} == before
