"""The template of a group, from files to files: shapes of known means, maps read back by SimpleITK and nibabel."""

import json

import nibabel
import numpy as np
import pytest
import scipy.linalg
import SimpleITK
from helpers import oblique_affine
from PIL import Image

from air_jax import UserError, io
from air_jax.file_templates import state as states
from air_jax.file_templates.options import Options
from air_jax.file_templates.run import build_template
from air_jax.file_templates.voting import vote

SHAPE, CENTRES, RADII = (40, 44), [(17, 20), (21, 24), (22, 19)], [6.0, 8.0, 10.0]
SETTINGS = {"affine_rounds": 1, "rounds": 2, "refine_steps": 20, "warped": True}


def distance_from(centre, shape=SHAPE):
    grid = np.moveaxis(np.indices(shape), 0, -1)
    return np.linalg.norm(grid - np.array(centre), axis=-1)


def write_discs(folder):
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for index, (centre, radius) in enumerate(zip(CENTRES, RADII, strict=True)):
        distance = distance_from(centre)
        disc = 200 / (1 + np.exp(2 * (distance - radius)))
        Image.fromarray(disc.astype(np.uint8)).save(folder / "images" / f"s{index}.png")
        Image.fromarray(np.where(distance < radius, 7, 0).astype(np.uint8)).save(folder / "labels" / f"s{index}.png")


def options_of(folder, name="out", **changes):
    return Options(folder / "images", folder / name, labels=folder / "labels", **(SETTINGS | changes))


def read_picture(path):
    return np.asarray(Image.open(path)).astype(float)


def itk_field(path):
    return SimpleITK.DisplacementFieldTransform(SimpleITK.ReadImage(str(path), SimpleITK.sitkVectorFloat64))


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Three discs of other sizes at other places, and the results for them."""
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder)
    return folder, build_template(options_of(folder))


@pytest.mark.slow
def test_the_template_has_the_mean_place_and_the_mean_size(discs):
    folder, scores = discs
    template = read_picture(folder / "out" / "template.png")
    assert template.shape == SHAPE
    inside = template > 0.5 * template.max()
    np.testing.assert_allclose(np.argwhere(inside).mean(axis=0), np.mean(CENTRES, axis=0), atol=0.3)
    # Of scales, the mean of the logarithms is the geometric mean.
    assert np.sqrt(inside.sum() / np.pi) == pytest.approx(np.prod(RADII) ** (1 / 3), abs=0.3)
    sharpness = [row["sharpness"] for row in scores["rounds"]]
    assert len(sharpness) == 4
    assert sharpness[-1] > 1.1 * sharpness[0]
    assert json.loads((folder / "out" / "scores.json").read_text()) == scores


@pytest.mark.slow
def test_the_means_of_the_maps_are_the_identity(discs):
    folder, scores = discs
    logarithms, fields = [], []
    for index in range(3):
        transform = SimpleITK.ReadTransform(str(folder / "out" / f"s{index}_affine.mat"))
        square = np.eye(3)
        square[:2, 2] = transform.TransformPoint((0.0, 0.0))
        square[:2, 0] = np.array(transform.TransformPoint((1.0, 0.0))) - square[:2, 2]
        square[:2, 1] = np.array(transform.TransformPoint((0.0, 1.0))) - square[:2, 2]
        logarithms.append(scipy.linalg.logm(square))
        fields.append(nibabel.load(folder / "out" / f"s{index}_deformation.nii.gz").get_fdata())
    np.testing.assert_allclose(np.mean(logarithms, axis=0), 0, atol=1e-6)
    assert scores["mean_affine_error"] < 1e-6
    np.testing.assert_allclose(np.mean(fields, axis=0), 0, atol=1e-3)
    assert np.abs(fields).max() > 0.1


@pytest.mark.slow
def test_itk_applies_a_subjects_maps_and_lands_on_the_template(discs):
    folder, _ = discs
    template = read_picture(folder / "out" / "template.png")
    for index, radius in enumerate(RADII):
        image = SimpleITK.ReadImage(str(folder / "images" / f"s{index}.png"), SimpleITK.sitkFloat64)
        whole = itk_field(folder / "out" / f"s{index}_displacement.nii.gz")
        warped = SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, image, whole, SimpleITK.sitkLinear, 0.0))
        assert np.corrcoef(warped.ravel(), template.ravel())[0, 1] > 0.99
        ours = nibabel.load(folder / "out" / f"s{index}_warped.nii.gz").get_fdata().squeeze()
        inner = distance_from(np.mean(CENTRES, axis=0)) < 12
        np.testing.assert_allclose(warped[inner] / warped.max(), ours[inner] / ours.max(), atol=0.02)
        # The affine after the deformation is the whole, at a point; the inverse leads back.
        deformation = itk_field(folder / "out" / f"s{index}_deformation.nii.gz")
        affine = SimpleITK.ReadTransform(str(folder / "out" / f"s{index}_affine.mat"))
        point = (22.0, 17.0)
        there = whole.TransformPoint(point)
        np.testing.assert_allclose(affine.TransformPoint(deformation.TransformPoint(point)), there, atol=1e-3)
        back = itk_field(folder / "out" / f"s{index}_inverse_displacement.nii.gz")
        np.testing.assert_allclose(back.TransformPoint(there), point, atol=0.1)
        edge = np.array(there) - np.array(CENTRES[index])[::-1]
        assert np.linalg.norm(edge) < radius


@pytest.mark.slow
def test_the_voted_label_map_is_the_mean_disc_and_pairs_agree(discs):
    folder, scores = discs
    voted = nibabel.load(folder / "out" / "template_labels.nii.gz").get_fdata().squeeze()
    assert set(np.unique(voted)) == {0, 7}
    expected = distance_from(np.mean(CENTRES, axis=0)) < np.prod(RADII) ** (1 / 3)
    assert 2 * (expected & (voted == 7)).sum() / (expected.sum() + (voted == 7).sum()) > 0.93
    dice = scores["dice_of_pairs"]
    assert dice["before"]["pairs"] == dice["after"]["pairs"] == 3
    assert dice["after"]["min"] > 0.93 > dice["before"]["mean"]


@pytest.mark.slow
def test_an_interrupted_command_goes_on_and_gives_the_same_bits(discs, monkeypatch, capsys):
    folder, scores = discs
    save, saved = states.save, []

    def interrupted(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(states, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_template(options_of(folder, "again"))
    assert not (folder / "again" / "scores.json").exists()
    again = build_template(options_of(folder, "again"))
    assert "going on after round 2" in capsys.readouterr().out
    assert len(saved) == 3
    assert again["rounds"] == scores["rounds"]
    for path in sorted((folder / "out").iterdir()):
        if path.suffix == ".gz":
            same = [nibabel.load(folder / name / path.name).get_fdata() for name in ("out", "again")]
            np.testing.assert_array_equal(*same)
        elif path.name != "scores.json":
            assert (folder / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    assert not (folder / "again" / states.STATE).exists()


@pytest.mark.slow
def test_a_finished_folder_is_not_touched(discs, capsys):
    folder, scores = discs
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    assert build_template(options_of(folder)) == scores
    assert "is finished" in capsys.readouterr().out
    with pytest.raises(UserError, match="other images or options"):
        build_template(options_of(folder, rounds=3))
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}


@pytest.mark.slow
def test_a_folder_that_lost_a_result_is_built_again_and_ids_of_mixed_types_stay(discs):
    folder, _ = discs
    # Labels of uint64 and int16 together: NumPy's common type is a float.
    for index, dtype in enumerate((np.uint64, np.int16, np.uint8)):
        inside = distance_from(CENTRES[index]) < RADII[index]
        (folder / "mixed").mkdir(exist_ok=True)
        ids = np.where(inside, 7 if index == 2 else 1007, 0).astype(dtype)
        np.save(folder / "mixed" / f"s{index}.npy", ids)
    options = Options(folder / "images", folder / "third", labels=folder / "mixed", rounds=0, affine_rounds=1)
    build_template(options)
    labels = folder / "third" / "template_labels.nii.gz"
    first = nibabel.load(labels).get_fdata()
    assert set(np.unique(first)) == {0, 1007}
    labels.unlink()
    build_template(options)
    np.testing.assert_array_equal(nibabel.load(labels).get_fdata(), first)


@pytest.mark.slow
def test_volumes_that_their_headers_place_apart_meet_on_the_grid_of_a_reference(tmp_path):
    (tmp_path / "images").mkdir()
    affine, rng = oblique_affine(3), np.random.default_rng(0)
    shapes = [(14, 16, 12), (15, 13, 12)]
    for index, shape in enumerate(shapes):
        moved = affine.copy()
        moved[:3, 3] += rng.uniform(-40, 40, 3)
        ball = 500 / (1 + np.exp(2 * (distance_from((6, 7, 5), shape) - 3.5 - index)))
        io.write_image(tmp_path / "images" / f"s{index}.nii.gz", ball.astype(np.float32), moved)
    reference = (1 / (1 + np.exp(2 * (distance_from((8, 6, 5), (16, 13, 11)) - 4)))).astype(np.float32)
    io.write_image(tmp_path / "grid.nii.gz", reference, affine)
    options = Options(
        tmp_path / "images",
        tmp_path / "out",
        reference=tmp_path / "grid.nii.gz",
        affine="rigid",
        affine_rounds=1,
        rounds=1,
        refine_steps=10,
    )
    build_template(options)
    template, grid = nibabel.load(tmp_path / "out" / "template.nii.gz"), nibabel.load(tmp_path / "grid.nii.gz")
    assert template.shape == grid.shape
    np.testing.assert_allclose(template.affine, grid.affine, atol=1e-5)
    values = template.get_fdata()
    np.testing.assert_allclose(np.argwhere(values > 0.5).mean(axis=0), (8, 6, 5), atol=0.35)
    fixed = SimpleITK.ReadImage(str(tmp_path / "out" / "template.nii.gz"), SimpleITK.sitkFloat64)
    for index in range(2):
        image = SimpleITK.ReadImage(str(tmp_path / "images" / f"s{index}.nii.gz"), SimpleITK.sitkFloat64)
        whole = itk_field(tmp_path / "out" / f"s{index}_displacement.nii.gz")
        warped = SimpleITK.GetArrayFromImage(SimpleITK.Resample(image, fixed, whole, SimpleITK.sitkLinear, 0.0))
        assert np.corrcoef(warped.T.ravel(), values.ravel())[0, 1] > 0.97


def test_votes_by_hand():
    ranks = np.array([[2, 1, 0, 3], [2, 1, 3, 1], [0, 0, 3, 2], [0, 0, 3, 3]])
    np.testing.assert_array_equal(vote(ranks), [0, 0, 3, 3])
