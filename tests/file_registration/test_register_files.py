"""Two volumes registered from files: the written results, checked with ITK and with the true deformation."""

import json

import numpy as np
import PIL.Image
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from air_jax import io
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files

CENTRE = np.array([12.0, -7.0, 31.0])
BALLS = np.array([[7.0, -12.0, 25.0], [17.0, -3.0, 27.0], [10.0, -1.0, 38.0], [16.0, -13.0, 37.0]])
LANDMARKS = np.array([[8.0, -10.0, 26.0], [15.0, -4.0, 29.0], [12.0, -7.0, 34.0], [13.0, -10.0, 36.0]])


def grid(shape, spacing, rotation):
    """Returns the affine of a rotated grid whose middle lies at `CENTRE`."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rotation).as_matrix() * spacing
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def to_fixed(points):
    """The true map in mm, from the moving to the fixed image: rotated, translated and deformed."""
    turned = (points - CENTRE) @ Rotation.from_rotvec([0.05, -0.03, 0.15]).as_matrix().T + CENTRE + [1.5, -1.0, 1.0]
    return turned + 0.8 * np.sin((points[..., [1, 2, 0]] - CENTRE[[1, 2, 0]]) / 5)


def scene(points):
    """Returns an image of smooth balls and its segmentation, `[...]` each, at points `[..., 3]` in mm."""
    distances = np.linalg.norm(points[..., None, :] - BALLS, axis=-1)
    image = (np.exp(-((distances / 5) ** 2)) * [1.0, 0.9, 0.8, 0.7]).sum(axis=-1)
    labels = np.where(distances.min(axis=-1) < 4.5, distances.argmin(axis=-1) + 1, 0)
    return image.astype(np.float32), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Registers two oblique volumes of different sizes with segmentations and landmarks; returns folder and scores."""
    folder = tmp_path_factory.mktemp("volumes")
    grids = {
        "fixed": ((20, 18, 16), (1.5, 1.3, 2.0), (0.2, -0.1, 0.1)),
        "moving": ((24, 17, 15), (1.2, 1.4, 1.9), (0, 0.15, -0.1)),
    }
    for name, (shape, *rest) in grids.items():
        affine = grid(shape, *rest)
        points = io.to_physical(np.stack(np.indices(shape), axis=-1), affine)
        image, labels = scene(points if name == "fixed" else to_fixed(points))
        io.write_image(folder / f"{name}.nii.gz", image, affine)
        io.write_image(folder / f"{name}_labels.nii.gz", labels, affine)
    io.write_landmarks(folder / "moving.csv", LANDMARKS)
    io.write_landmarks(folder / "fixed.csv", to_fixed(LANDMARKS))
    (folder / "out").mkdir()
    (folder / "out" / "warped.png").write_text("result of an earlier registration")
    (folder / "out" / "scores.json").write_text('{"version": "air_jax 0.1", "files": ["warped.png"]}')
    scores = register_files(
        Options(
            folder / "fixed.nii.gz",
            folder / "moving.nii.gz",
            folder / "out",
            labels=folder / "moving_labels.nii.gz",
            fixed_labels=folder / "fixed_labels.nii.gz",
            landmarks=folder / "moving.csv",
            fixed_landmarks=folder / "fixed.csv",
            affine="rigid",
            refine_steps=30,
        )
    )
    return folder, scores


def transform(path):
    """Returns ITK's transform of a displacement field file."""
    return SimpleITK.DisplacementFieldTransform(SimpleITK.ReadImage(path, SimpleITK.sitkVectorFloat64))


def read(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).T


def read_json(path):
    """Reads strict JSON, which has neither NaN nor Infinity."""

    def refuse(name):
        raise AssertionError(f"{path}: has {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.slow
def test_all_outputs_are_written_and_earlier_ones_removed(volumes):
    folder, scores = volumes
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {
        "warped.nii.gz",
        "affine.mat",
        "deformation.nii.gz",
        "displacement.nii.gz",
        "inverse_displacement.nii.gz",
        "jacobian.nii.gz",
        "warped_labels.nii.gz",
        "landmarks.csv",
        "scores.json",
        "report.html",
        "report.png",
    }
    assert read_json(folder / "out" / "scores.json") == scores
    with PIL.Image.open(folder / "out" / "report.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.slow
def test_itk_warps_image_and_segmentation_to_the_same_voxels(volumes):
    folder, _ = volumes
    fixed, moving = (io.read_image(folder / f"{name}.nii.gz") for name in ("fixed", "moving"))
    field = transform(folder / "out" / "displacement.nii.gz")
    reference = SimpleITK.ReadImage(folder / "fixed.nii.gz")
    displacement, affine = io.read_field(folder / "out" / "displacement.nii.gz")
    np.testing.assert_allclose(affine, fixed.affine, atol=1e-5)
    points = np.stack(np.indices(fixed.shape), axis=-1) + displacement
    coordinates = io.to_voxels(io.to_physical(points, fixed.affine), moving.affine)
    inside = ((coordinates >= 1e-3) & (coordinates <= np.array(moving.shape) - 1 - 1e-3)).all(axis=-1)
    assert 0.4 < inside.mean() < 1

    image = SimpleITK.ReadImage(folder / "moving.nii.gz")
    expected = SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, reference, field, SimpleITK.sitkLinear)).T
    warped = read(folder / "out" / "warped.nii.gz")
    assert warped.shape == fixed.shape
    np.testing.assert_allclose(warped[inside], expected[inside], atol=1e-4)

    image = SimpleITK.ReadImage(folder / "moving_labels.nii.gz")
    expected = SimpleITK.Resample(image, reference, field, SimpleITK.sitkNearestNeighbor)
    expected = SimpleITK.GetArrayFromImage(expected).T
    warped = read(folder / "out" / "warped_labels.nii.gz")
    assert warped.dtype == expected.dtype == np.uint8
    inside &= (np.abs(coordinates % 1 - 0.5) > 1e-3).all(axis=-1)  # not halfway between two voxels
    assert set(np.unique(warped)) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(warped[inside], expected[inside])


@pytest.mark.slow
def test_landmark_errors_fall_in_both_directions(volumes):
    folder, scores = volumes
    moving, fixed = LANDMARKS, to_fixed(LANDMARKS)
    distance = np.linalg.norm(moving - fixed, axis=1)
    for name, file, start, target in (
        ("tre", "displacement.nii.gz", fixed, moving),
        ("tre_inverse", "inverse_displacement.nii.gz", moving, fixed),
    ):
        field = transform(folder / "out" / file)
        carried = np.array([field.TransformPoint(point.tolist()) for point in start])
        error = np.linalg.norm(carried - target, axis=1)
        np.testing.assert_allclose(scores["before"][f"{name}_mean_mm"], distance.mean(), rtol=1e-4)
        np.testing.assert_allclose(scores["after"][f"{name}_mean_mm"], error.mean(), atol=1e-3)
        np.testing.assert_allclose(scores["after"][f"{name}_median_mm"], np.median(error), atol=1e-3)
        assert error.mean() < 0.4 * distance.mean()
    # `carried` now holds the moving image's landmarks in the fixed image.
    np.testing.assert_allclose(io.read_landmarks(folder / "out" / "landmarks.csv"), carried, atol=1e-3)


@pytest.mark.slow
def test_scores_agree_with_the_written_files(volumes):
    folder, scores = volumes
    before, after = scores["before"], scores["after"]
    labels, fixed = read(folder / "out" / "warped_labels.nii.gz"), read(folder / "fixed_labels.nii.gz")
    dice = [2 * ((labels == k) & (fixed == k)).sum() / ((labels == k).sum() + (fixed == k).sum()) for k in range(1, 5)]
    np.testing.assert_allclose([after[f"dice_{label}"] for label in range(1, 5)], dice, rtol=1e-5)
    np.testing.assert_allclose(after["dice"], np.mean(dice), rtol=1e-5)
    assert after["dice"] > before["dice"] + 0.1
    assert after["hd95_mm"] < before["hd95_mm"]
    assert after["ncc"] > before["ncc"]
    assert after["mse"] < 0.3 * before["mse"]
    assert before["folding_percent"] == before["sd_log_jacobian"] == 0
    assert after["folding_percent"] == 0 < after["sd_log_jacobian"] < 0.5

    # Before registration, ITK resamples with the identity.
    images = (SimpleITK.ReadImage(folder / f"{name}_labels.nii.gz") for name in ("moving", "fixed"))
    unmoved = SimpleITK.GetArrayFromImage(SimpleITK.Resample(*images, SimpleITK.Transform(), 1)).T
    mean = np.mean(
        [2 * ((unmoved == k) & (fixed == k)).sum() / ((unmoved == k).sum() + (fixed == k).sum()) for k in range(1, 5)]
    )
    np.testing.assert_allclose(before["dice"], mean, atol=5e-3)

    determinant = read(folder / "out" / "jacobian.nii.gz")[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(after["sd_log_jacobian"], np.log(determinant).std(), rtol=1e-3)
    assert scores["options"]["affine"] == "rigid"
    assert scores["options"]["workdir"] is None
    assert scores["version"].startswith("air_jax ")
    assert scores["seconds"]["all"] > 0


@pytest.mark.slow
def test_labels_of_only_one_segmentation_score_0_and_leave_valid_json(volumes, tmp_path):
    folder, _ = volumes
    labels = io.read_image(folder / "moving_labels.nii.gz")
    io.write_image(tmp_path / "other.nii.gz", labels.array + 4 * (labels.array > 0), labels.affine)
    scores = register_files(
        Options(
            folder / "fixed.nii.gz",
            folder / "moving.nii.gz",
            tmp_path / "out",
            labels=tmp_path / "other.nii.gz",
            fixed_labels=folder / "fixed_labels.nii.gz",
            affine="none",
            refine_steps=0,
        )
    )
    assert scores["after"]["dice"] == scores["after"]["dice_1"] == 0
    assert scores["after"]["hd95_mm"] is scores["after"]["hd95_mm_1"] is None
    assert read_json(tmp_path / "out" / "scores.json") == scores
    # Without affine and steps, the displacement is zero.
    displacement, _ = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    np.testing.assert_allclose(displacement, 0, atol=1e-12)
