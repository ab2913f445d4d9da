"""Registrations of files with guides: regions, axes, landmarks, several contrasts, colours, smoothness."""

import itertools
import json

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist

from air_jax import io
from air_jax.file_registration.guides import read_guides
from air_jax.file_registration.guiding import Guiding
from air_jax.file_registration.inputs import prepare, read_subjects
from air_jax.file_registration.options import Options, choose_registration
from air_jax.file_registration.run import register_files
from air_jax.io.subject import read_subject
from air_jax.losses import make_objective
from air_jax.optimize import DenseField


def texture(shape, seed=0, sigma=2.0):
    image = gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return ((image - image.min()) / np.ptp(image) * 200).astype(np.float32)


def points_of(path):
    """The field of ITK as physical displacements `[x, y, z, 3]`, and its affine in RAS."""
    image = nibabel.load(path)
    return np.asarray(image.dataobj)[..., 0, :], image.affine


@pytest.mark.slow
def test_a_volume_with_all_guides(tmp_path, without_report):
    """Oblique voxels of two sizes: what may not move or deform does not, in the files that other tools read."""
    rng, shape = np.random.default_rng(0), (20, 18, 12)
    affine = np.diag([-1.2, -1.0, 2.5, 1.0])  # LPS to the right, as most scanners store
    affine[:3, 3] = (10, 12, -14)
    first, second = texture(shape, 1), texture(shape, 2)
    labels = np.zeros(shape, np.uint8)
    labels[4:8, 4:8, 3:8], labels[13:17, 4:8, 3:8] = 3, 7
    wave = 1.5 * np.sin(np.indices(shape)[0] / 4)
    for name, image in (("t1", first), ("t2", second)):
        io.write_image(tmp_path / f"fixed_{name}.nii.gz", image, affine)
        moved = SimpleITK.Warp(
            SimpleITK.GetImageFromArray(image),
            SimpleITK.GetImageFromArray(np.stack([0 * wave, wave, 0 * wave], -1), isVector=True),
        )
        io.write_image(tmp_path / f"moving_{name}.nii.gz", SimpleITK.GetArrayFromImage(moved), affine)
    io.write_image(tmp_path / "labels.nii.gz", labels, affine)
    voxels = rng.uniform([6, 6, 3], [16, 14, 9], (5, 3))
    fixed_points = io.to_physical(voxels, affine)
    io.write_landmarks(tmp_path / "fixed.csv", fixed_points)
    io.write_landmarks(tmp_path / "moving.csv", fixed_points + np.array([1.0, 0.0, 4.0]))
    guiding = Guiding(
        smoothness=0.7,
        regularizers=(("bending", 0.01),),
        restrict="1,1,0",
        rigid_region=tmp_path / "labels.nii.gz",
        guide_landmarks=tmp_path / "moving.csv",
        fixed_guide_landmarks=tmp_path / "fixed.csv",
        guide_weight=1.0,
        guide_tolerance=0.5,
        affine_from="landmarks",
        fixed_contrasts=(tmp_path / "fixed_t2.nii.gz",),
        moving_contrasts=(tmp_path / "moving_t2.nii.gz",),
        contrast_weights="1,0.5",
    )
    files = tmp_path / "fixed_t1.nii.gz", tmp_path / "moving_t1.nii.gz", tmp_path / "out"
    scores = register_files(Options(*files, affine="rigid", refine_steps=9, guiding=guiding))
    field, matrix = points_of(tmp_path / "out" / "displacement.nii.gz")
    np.testing.assert_allclose(field[..., 2], 0, atol=1e-5)  # the file's z
    assert np.abs(field[..., :2]).max() > 0.5
    for label in (3, 7):
        index = np.argwhere(labels == label)
        places = nibabel.affines.apply_affine(matrix, index) * [-1, -1, 1]
        np.testing.assert_allclose(pdist(places + field[labels == label]), pdist(places), atol=2e-3)
    guides, options = scores["guides"], json.loads((tmp_path / "out" / "scores.json").read_text())["options"]
    assert len(guides["rigid_region_error"]) == 2
    assert max(*guides["rigid_region_error"], guides["restrict_error"]) < 0.01
    # The landmarks also ask for 4 mm along z, which is not allowed.
    np.testing.assert_allclose(guides["guide_distance_mean"][0], np.hypot(1, 4), atol=1e-4)
    assert 4 <= guides["guide_distance_mean"][1] < 4.1
    assert (options["restrict"], options["smoothness"], options["contrast_weights"]) == ("1,1,0", "0.7", "1,0.5")
    affine_of = SimpleITK.ReadTransform(str(tmp_path / "out" / "affine.mat"))
    np.testing.assert_allclose(affine_of.TransformPoint((3.0, 4.0, 5.0))[2], 5.0, atol=1e-9)


@pytest.mark.slow
def test_a_picture_in_colour_that_keeps_its_volume(tmp_path, without_report):
    """The landmarks ask for a picture 1.1 times as large; in the region the deformation takes that back."""
    for name, seed in (("fixed", 3), ("moving", 4)):
        channels = np.stack([texture((40, 44), seed + channel) for channel in (0, 10, 20)], axis=-1)
        PIL.Image.fromarray(channels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    region = np.zeros((40, 44), np.uint8)
    region[10:24, 12:28] = 255
    PIL.Image.fromarray(region).save(tmp_path / "region.png")
    points = np.array([[10.0, 10], [30, 12], [20, 30]])
    io.write_landmarks(tmp_path / "fixed.csv", points)
    io.write_landmarks(tmp_path / "moving.csv", 1.1 * points - 2)
    guides = {"guide_landmarks": tmp_path / "moving.csv", "fixed_guide_landmarks": tmp_path / "fixed.csv"}
    guides["keep_volume"] = tmp_path / "region.png"
    guiding = Guiding(colour="channels", affine_from="landmarks", guide_weight=0.0, smoothness=2.0, **guides)
    files = tmp_path / "fixed.png", tmp_path / "moving.png", tmp_path / "out"
    options = Options(*files, affine="similarity", refine_steps=3, guiding=guiding)
    scores = register_files(options)
    np.testing.assert_allclose(scores["affine"]["matrix"], [[1.1, 0, -2], [0, 1.1, -2]], atol=1e-6)
    jacobian = io.read_image(tmp_path / "out" / "jacobian.nii.gz").array
    np.testing.assert_allclose(jacobian[region > 0], 1, atol=0.01)
    assert jacobian.max() > 1.2
    assert scores["guides"]["keep_volume_error"] < 0.01
    inputs = prepare(choose_registration(options, 2)[0], *read_subjects(options), options)
    assert inputs.fixed_image.shape == (1, 40, 44, 3)
    assert inputs.channel_weights == (1 / 3,) * 3


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))][1:5])
def test_axes_are_those_of_the_file(tmp_path, order):
    """`--restrict` names x, y and z of oblique grids as nibabel does: the axes closest to them."""
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    affine = turn[:, [*order, 3]] * [-1, 2, 1.5, 1]
    nibabel.save(nibabel.Nifti1Image(texture((6, 7, 8)), affine), tmp_path / "image.nii.gz")
    subject = read_subject(tmp_path / "image.nii.gz")
    restrict = read_guides(Guiding(restrict="1,0,1"), subject, subject).constraints.restrict
    axes = nibabel.orientations.io_orientation(affine)[:, 0]
    assert restrict == tuple(0.0 if axis == 1 else 1.0 for axis in axes)


def test_further_contrasts_lie_on_the_grid_of_the_first(tmp_path):
    """As SimpleITK resamples them; outside of the second one's field of view nothing counts."""
    grid, other = np.diag([1.0, 1.0, 2.0, 1.0]), np.diag([1.5, 1.5, 1.5, 1.0])
    other[:3, 3] = (1, 2, 0)
    io.write_image(tmp_path / "first.nii.gz", texture((16, 14, 9)), grid)
    second = texture((9, 8, 11), 5) / 200
    second[0, 0, 0], second[-1, -1, -1] = 0, 1
    io.write_image(tmp_path / "second.nii.gz", second, other)
    files = tmp_path / "first.nii.gz", tmp_path / "first.nii.gz", tmp_path / "out"
    guiding = Guiding(fixed_contrasts=(tmp_path / "second.nii.gz",), moving_contrasts=(tmp_path / "second.nii.gz",))
    options = Options(*files, normalization="range", guiding=guiding)
    io.write_image(tmp_path / "first.nii.gz", texture((16, 14, 9)) / 200, grid)
    inputs = prepare(choose_registration(options, 3)[0], *read_subjects(options), options)
    images = [SimpleITK.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("second", "first")]
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(*images, SimpleITK.Transform(), SimpleITK.sitkLinear, np.nan)
    ).T
    seen = np.asarray(inputs.fixed_weights)[0] == 1
    assert seen.any()
    assert not np.isnan(expected[seen]).any()
    np.testing.assert_allclose(np.asarray(inputs.fixed_image)[0][seen, 1], expected[seen], atol=1e-5)
    assert (np.asarray(inputs.fixed_weights)[0][np.isnan(expected)] < 1).all()


def test_smoothness_and_regularizers_change_the_registration():
    files, weights = ("a", "b", "c"), (("bending", 0.5), ("volume", 0.2))
    registration, _ = choose_registration(Options(*files, guiding=Guiding(smoothness=2.0, regularizers=weights)), 2)
    assert registration.field == DenseField(update_sigma=6.0, total_sigma=1.0)
    assert registration.objective == make_objective("lncc", bending=0.5, volume=0.2)
    registration, _ = choose_registration(Options(*files, guiding=Guiding(total_sigma=0.0)), 2)
    assert registration.field == DenseField(total_sigma=0.0)
