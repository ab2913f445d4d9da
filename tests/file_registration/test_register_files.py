"""Two files registered, from the command line to what is left in the folder; ITK is asked whether it means the same."""

import json

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import SimpleITK
from scipy.spatial.transform import Rotation

from air_jax import UserError, io
from air_jax.file_registration.run import Options, register_files
from air_jax.io.space import reversed_affine

CENTRE = np.array([12.0, -7.0, 31.0])
BALLS = np.array([[7.0, -12.0, 25.0], [17.0, -3.0, 27.0], [10.0, -1.0, 38.0], [16.0, -13.0, 37.0]])
LANDMARKS = np.array([[8.0, -10.0, 26.0], [15.0, -4.0, 29.0], [12.0, -7.0, 34.0], [13.0, -10.0, 36.0]])


def grid(shape, spacing, rotation):
    """A rotated grid whose middle lies at `CENTRE`."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rotation).as_matrix() * spacing
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def to_fixed(points):
    """The true way in mm, from the moving to the fixed image: turned, shifted and bent."""
    turned = (points - CENTRE) @ Rotation.from_rotvec([0.05, -0.03, 0.15]).as_matrix().T + CENTRE + [1.5, -1.0, 1.0]
    return turned + 0.8 * np.sin((points[..., [1, 2, 0]] - CENTRE[[1, 2, 0]]) / 5)


def scene(points):
    """Smooth balls, and their segmentation: `[..., 3]` in mm to `[...]` each."""
    distances = np.linalg.norm(points[..., None, :] - BALLS, axis=-1)
    image = (np.exp(-((distances / 5) ** 2)) * [1.0, 0.9, 0.8, 0.7]).sum(axis=-1)
    labels = np.where(distances.min(axis=-1) < 4.5, distances.argmin(axis=-1) + 1, 0)
    return image.astype(np.float32), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """The folder of two oblique volumes of different sizes, registered with all that goes with them; and the scores."""
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
    (folder / "out" / "warped.png").write_text("left by another registration")
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
    """ITK's transform of a displacement field's file."""
    return SimpleITK.DisplacementFieldTransform(SimpleITK.ReadImage(path, SimpleITK.sitkVectorFloat64))


def read(path):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)).T


def read_json(path):
    """Strictly: neither NaN nor Infinity, which JSON does not have."""

    def refuse(name):
        raise AssertionError(f"{path}: has {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_all_outputs_are_there_and_nothing_else(volumes):
    folder, scores = volumes
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {
        "warped.nii.gz",
        "displacement.nii.gz",
        "inverse_displacement.nii.gz",
        "jacobian.nii.gz",
        "warped_labels.nii.gz",
        "landmarks.csv",
        "scores.json",
        "report.png",
    }
    assert read_json(folder / "out" / "scores.json") == scores
    with PIL.Image.open(folder / "out" / "report.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
        assert np.asarray(picture.convert("L")).std() > 10


def test_itk_warps_image_and_labels_the_same(volumes):
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
    assert np.issubdtype(warped.dtype, np.integer)
    inside &= (np.abs(coordinates % 1 - 0.5) > 1e-3).all(axis=-1)  # not in the middle between two voxels
    assert set(np.unique(warped)) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(warped[inside], expected[inside])


def test_landmarks_come_closer_both_ways_in_mm(volumes):
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
    # The moving image's landmarks, carried to the fixed image: what the last of the two did.
    np.testing.assert_allclose(io.read_landmarks(folder / "out" / "landmarks.csv"), carried, atol=1e-3)


def test_scores_are_those_of_the_files(volumes):
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

    # Before: by the headers alone, as ITK resamples with the identity.
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


def test_labels_that_only_one_side_has_leave_valid_json(volumes, tmp_path):
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
    # Nothing was asked for but the headers.
    displacement, _ = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    np.testing.assert_allclose(displacement, 0, atol=1e-12)


# ---- Pictures --------------------------------------------------------------------------------------------------------


def picture(shape, offset, dtype=np.uint8):
    """Blobs of three colours on white."""
    rows, columns = np.indices(shape)
    colours = np.zeros((*shape, 3))
    for centre, colour in (((18, 15), (0.9, 0.6, 0.1)), ((30, 32), (0.1, 0.7, 0.8)), ((14, 36), (0.5, 0.1, 0.9))):
        row, column = np.add(centre, offset)
        colours += np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 50)[..., None] * colour
    return np.round((1 - np.clip(colours, 0, 1)) * 255).astype(dtype)


def test_colour_pictures_of_different_sizes(tmp_path):
    fixed, moving = picture((44, 50), (0, 0)), picture((52, 48), (4, 3))
    PIL.Image.fromarray(fixed).save(tmp_path / "fixed.png")
    PIL.Image.fromarray(moving).save(tmp_path / "moving.png")
    (tmp_path / "points.csv").write_text("x,y\n18,22\n35,34\n")
    (tmp_path / "fixed_points.csv").write_text("x,y\n15,18\n32,30\n")
    scores = register_files(
        Options(
            tmp_path / "fixed.png",
            tmp_path / "moving.png",
            tmp_path / "out",
            landmarks=tmp_path / "points.csv",
            fixed_landmarks=tmp_path / "fixed_points.csv",
            affine="translation",
            similarity="ncc",
            field="velocity",
            refine_steps=2,
        )
    )
    with PIL.Image.open(tmp_path / "out" / "warped.png") as warped:
        assert warped.mode == "RGB"
        warped = np.asarray(warped).astype(int)
    assert warped.shape == fixed.shape
    difference = np.abs(warped - fixed)[4:-12, 4:-12]
    assert difference.mean() < 3
    displacement, affine = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    np.testing.assert_array_equal(affine, reversed_affine(np.ones(2)))
    coordinates = np.moveaxis(np.indices((44, 50)).transpose(1, 2, 0) + displacement.astype(np.float64), -1, 0)
    for channel in range(3):
        expected = scipy.ndimage.map_coordinates(
            moving[..., channel].astype(float), coordinates, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(warped[..., channel], expected, atol=0.51)
    np.testing.assert_allclose(scores["before"]["tre_mean_pixels"], 5, rtol=1e-5)
    assert scores["after"]["tre_mean_pixels"] < 0.5
    assert scores["after"]["tre_inverse_mean_pixels"] < 0.5


def test_a_picture_of_floats_keeps_its_values(tmp_path):
    """A TIFF of 32 bits may hold any number, which a picture cannot be rounded to."""
    values = picture((30, 40), (0, 0))[..., 0].astype(np.float32) * 4 - 100
    PIL.Image.fromarray(values).save(tmp_path / "image.tif")
    register_files(Options(*[tmp_path / "image.tif"] * 2, tmp_path / "out", affine="none", refine_steps=0))
    (warped,) = (tmp_path / "out").glob("warped.*")
    np.testing.assert_array_equal(io.read_image(warped).array, values)


# ---- A trained network -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    from air_jax.training.run import train
    from configs import digits

    config = digits.get_config()
    config.num_train_steps, config.batch_size, config.log_every, config.eval_every = 2, 4, 1, 2
    config.eval.num_pairs, config.eval.batch_size = 4, 4
    folder = tmp_path_factory.mktemp("runs") / "digits"
    train(config, folder)
    return folder


def save_digits(folder):
    """Two blurred strokes in 8 bits, as large as the model's images."""
    rows, columns = np.indices((28, 28))
    for name, shift in (("fixed", 0), ("moving", 2)):
        stroke = np.exp(-((rows - columns * 0.5 - 6 - shift) ** 2) / 8) * (abs(columns - 14) < 9)
        PIL.Image.fromarray(np.round(255 * stroke).astype(np.uint8)).save(folder / f"{name}.png")
    return folder / "fixed.png", folder / "moving.png"


def test_a_trained_network_gives_the_deformation(workdir, tmp_path):
    import air_jax

    paths = save_digits(tmp_path)
    network = register_files(Options(*paths, tmp_path / "out", workdir=workdir))
    images = [np.asarray(PIL.Image.open(path)) for path in paths]
    expected = air_jax.load(workdir).register(*images).displacement
    displacement, _ = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(displacement, expected, atol=1e-4)

    scores = register_files(Options(*paths, tmp_path / "refined", workdir=workdir, refine_steps=1))
    assert scores["after"]["mse"] < 0.95 * network["after"]["mse"]


def test_a_network_takes_what_resampling_has_rounded_above_one(volumes, tmp_path, monkeypatch):
    """Where eight neighbours are 1, their weighted mean may be 1.0000001, which the network's check refuses."""
    import jax

    import air_jax
    from air_jax.file_registration import run as module
    from air_jax.losses import make_objective
    from air_jax.optimize import DenseField
    from air_jax.registration import Registration

    folder, _ = volumes
    for name in ("fixed", "moving"):
        labels = io.read_image(folder / f"{name}_labels.nii.gz")
        io.write_image(tmp_path / f"{name}.nii.gz", np.uint8(labels.array > 0), labels.affine)
    model, image = air_jax.AiR(patch_size=4), np.zeros((1, 20, 16, 16, 1), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), image, image)["params"]
    network = Registration(
        model, params, image.shape[1:], 0, make_objective("mse"), DenseField(), normalization="percentile"
    )
    monkeypatch.setattr(module, "load", lambda workdir: network)
    scores = register_files(
        Options(tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", tmp_path / "out", workdir=tmp_path)
    )
    assert scores["after"]["mse"] == scores["before"]["mse"]  # the head's weights are zero at first


def test_what_a_network_does_not_take(workdir, volumes, tmp_path):
    folder, _ = volumes
    with pytest.raises(UserError, match=r"its model takes 2 axes and 1 channel\(s\); .*fixed\.nii\.gz has 3 axes"):
        register_files(Options(folder / "fixed.nii.gz", folder / "moving.nii.gz", tmp_path / "out", workdir=workdir))
    with pytest.raises(UserError, match="--normalization is the trained run's own") as error:
        register_files(Options(*save_digits(tmp_path), tmp_path / "out", workdir=workdir, normalization="range"))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"config\.json: not found"):
        register_files(Options(*save_digits(tmp_path), tmp_path / "out", workdir=tmp_path))
    assert not (tmp_path / "out").exists()
