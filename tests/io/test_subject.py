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
