"""Subjects: image, segmentation and landmarks are read as stored; those that do not fit are refused in one line."""

import numpy as np
import pytest

from air_jax import UserError, io

SHAPE, AFFINE = (8, 7, 6), np.diag([1.2, 1.4, 1.9, 1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("subject"), np.random.default_rng(0)
    io.write_image(folder / "image.nii.gz", rng.integers(-1000, 2000, SHAPE, np.int16), AFFINE)
    io.write_image(folder / "slice.nii.gz", rng.random(SHAPE[:2], np.float32), AFFINE[[0, 1, 3]][:, [0, 1, 3]])
    io.write_segmentation(folder / "labels.nii.gz", rng.integers(0, 2**32, SHAPE, np.uint32), AFFINE)
    io.write_landmarks(folder / "points.csv", rng.random((4, 3)))
    io.write_landmarks(folder / "three.csv", rng.random((3, 3)))
    return folder


def test_the_image_is_not_normalised_and_all_types_are_kept(folder):
    subject = io.read_subject(
        folder / "image.nii.gz", segmentation=folder / "labels.nii.gz", landmarks=folder / "points.csv"
    )
    assert subject.grey is subject.volume.array
    assert subject.grey.dtype == np.int16
    assert subject.segmentation.dtype == np.uint32
    np.testing.assert_array_equal(subject.segmentation, io.read_segmentation(folder / "labels.nii.gz").array)
    np.testing.assert_array_equal(subject.landmarks, io.read_landmarks(folder / "points.csv"))
    bare = io.read_subject(folder / "image.nii.gz")
    assert bare.segmentation is bare.landmarks is None


def test_colours_become_luminance_and_other_channels_their_mean(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (9, 8, 3), np.uint8)
    io.write_image(tmp_path / "colours.png", colours, np.eye(3))
    subject = io.read_subject(tmp_path / "colours.png")
    np.testing.assert_array_equal(subject.volume.array, colours)
    expected = 0.299 * colours[..., 0] + 0.587 * colours[..., 1] + 0.114 * colours[..., 2]
    np.testing.assert_allclose(subject.grey, expected, rtol=1e-6)
    two = rng.random((9, 8, 2), np.float32)
    io.write_image(tmp_path / "two.npz", two, np.eye(3))
    np.testing.assert_allclose(io.read_subject(tmp_path / "two.npz").grey, two.mean(axis=-1), rtol=1e-6)


def test_pairs_that_do_not_fit_are_refused(folder):
    image = folder / "image.nii.gz"
    whole = io.read_subject(image, segmentation=folder / "labels.nii.gz", landmarks=folder / "points.csv")
    bare = io.read_subject(image)
    io.check_pair(whole, whole)
    io.check_pair(bare, whole)
    for fixed, moving, match in (
        (io.read_subject(folder / "slice.nii.gz"), bare, r"has 2 axes and .*image\.nii\.gz 3"),
        (io.read_subject(image, segmentation=folder / "labels.nii.gz"), bare, "has a segmentation and .* has none"),
        (io.read_subject(image, landmarks=folder / "points.csv"), bare, "has 4 landmarks and .* 0"),
        (io.read_subject(image, landmarks=folder / "three.csv"), whole, "has 3 landmarks and .* 4; give the same"),
    ):
        with pytest.raises(UserError, match=match) as error:
            io.check_pair(fixed, moving)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("frame", "hint"),
    [
        (lambda points, affine: points * [-1, -1, 1], r"\(taken as RAS, they lie inside\)"),
        (lambda points, affine: io.to_voxels(points, affine), r"\(taken as voxels, they lie inside\)"),
        (lambda points, affine: points + 1000, "$"),
    ],
)
def test_landmarks_in_another_frame_are_refused_by_the_frame_expected(tmp_path, frame, hint):
    rng, affine = np.random.default_rng(0), np.diag([-2.0, -2, 2, 1])
    affine[:3, 3] = 130, -60, -300
    io.write_image(tmp_path / "image.nii.gz", rng.random((40, 44, 36), np.float32), affine)
    points = io.to_physical(rng.uniform(10, 26, (8, 3)), affine)
    io.write_landmarks(tmp_path / "points.csv", frame(points, affine))
    with pytest.raises(UserError, match=rf"all 8 points lie outside of .*must be in mm, LPS, x first ?{hint}"):
        io.read_subject(tmp_path / "image.nii.gz", landmarks=tmp_path / "points.csv")
    points[:7] += 1000  # the caller counts those outside
    io.write_landmarks(tmp_path / "points.csv", points)
    subject = io.read_subject(tmp_path / "image.nii.gz", landmarks=tmp_path / "points.csv")
    assert io.count_outside(subject.landmarks, subject.volume) == 7


def test_the_unit_of_landmarks_must_be_that_of_the_image(tmp_path):
    rng = np.random.default_rng(0)
    io.write_image(tmp_path / "picture.png", rng.integers(0, 256, (9, 12), np.uint8), np.eye(3))
    io.write_image(tmp_path / "slice.nii", rng.random((12, 9), np.float32), np.diag([0.002, 0.002, 1]))
    for unit, right, wrong in (("\u00b5m", "slice.nii", "picture.png"), ("px", "picture.png", "slice.nii")):
        (tmp_path / "points.csv").write_text(f"Centroid X {unit},Centroid Y {unit}\n11,8\n4,5\n", encoding="utf-8")
        subject = io.read_subject(tmp_path / right, landmarks=tmp_path / "points.csv")
        assert io.count_outside(subject.landmarks, subject.volume) == 0
        with pytest.raises(UserError, match=r"has points in (mm|pixel); for .* must be in (mm, LPS|pixels: column)"):
            io.read_subject(tmp_path / wrong, landmarks=tmp_path / "points.csv")
    (tmp_path / "points.csv").write_text("x,y\n120,80\n")
    with pytest.raises(UserError, match=r"all 1 points lie outside of .*in pixels: column, row$"):
        io.read_subject(tmp_path / "picture.png", landmarks=tmp_path / "points.csv")


@pytest.mark.parametrize("size", [2e-3, 1.0, 50.0])
def test_segmentations_are_compared_with_the_image_in_voxels(tmp_path, size):
    rng, affine = np.random.default_rng(0), np.diag([size, size, size, 1])
    labels, image = rng.integers(0, 3, (12, 11, 10), np.uint8), tmp_path / "image.nii"
    io.write_image(image, rng.random(labels.shape, np.float32), affine)
    for shift, scale, is_right in ((0.02, 1, True), (0.5, 1, False), (4, 1, False), (0, 2, False), (0, 1.03, False)):
        theirs = affine * scale
        theirs[0, 3], theirs[3, 3] = shift * size, 1
        io.write_segmentation(tmp_path / "labels.nii", labels, theirs)
        if is_right:
            io.read_subject(image, segmentation=tmp_path / "labels.nii")
            continue
        with pytest.raises(UserError, match=r"lies elsewhere in space than .*by up to [0-9.]+ voxels"):
            io.read_subject(image, segmentation=tmp_path / "labels.nii")
