"""What an image file shows: NaN, padding, masks and the value of the background."""

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK

from air_jax import UserError, io
from air_jax.file_registration.field_of_view import background_of, outside_of, read_mask
from air_jax.file_registration.options import Options
from air_jax.file_registration.pair import read_pair
from air_jax.io.space import reversed_affine

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def head(shape=(20, 18, 16), air=-1000):
    """Hounsfield units: a textured ball in air."""
    rng = np.random.default_rng(0)
    distance = np.linalg.norm(np.stack(np.indices(shape), axis=-1) - (np.array(shape) - 1) / 2, axis=-1)
    return np.where(distance < 7, rng.integers(-90, 300, shape), air).astype(np.int16)


def outside(array, window="percentile", path="image.nii.gz"):
    return outside_of(path, io.Volume(array, AFFINE), window)


def test_an_image_with_air_around_it_shows_all_voxels():
    assert not outside(head()).any()
    assert not outside(head(air=0)).any()
    assert not outside(head().clip(0).astype(np.uint8)).any()


@pytest.mark.parametrize("window", ["percentile", "ct"])
def test_padding_lower_than_air_is_outside(window):
    image = head()
    image[:3], image[-3:] = -3024, -3024
    np.testing.assert_array_equal(outside(image, window), image == -3024)


def test_low_values_within_are_outside_in_a_ct_only():
    image = head()
    image[9, 9, 8] = -2500
    assert not outside(image).any()
    np.testing.assert_array_equal(outside(image, "ct"), image == -2500)


def test_a_constant_surround_of_a_box_is_outside():
    """As a crop that was padded; a head fills its box less."""
    rng = np.random.default_rng(0)
    image = np.zeros((20, 18, 16), np.uint8)
    image[2:16, 3:, :15] = rng.integers(1, 200, (14, 15, 15))
    expected = np.ones(image.shape, bool)
    expected[2:16, 3:, :15] = False
    np.testing.assert_array_equal(outside(image), expected)
    image[2:16, 3:, :15] = 7  # a filled box is an object
    assert not outside(image).any()


def test_values_that_are_not_finite_are_outside(tmp_path):
    image = head().astype(np.float32)
    image[image == -1000] = np.nan
    image[9, 9, 8] = np.inf
    nibabel.Nifti1Image(image, np.diag([-2.0, -2, 2, 1])).to_filename(tmp_path / "image.nii.gz")
    np.save(tmp_path / "image.npy", image)
    nibabel.MGHImage(image, np.eye(4)).to_filename(tmp_path / "image.mgz")
    for name in ("image.nrrd", "image.mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image.T), tmp_path / name)
    for name in ("image.nii.gz", "image.npy", "image.mgz", "image.nrrd", "image.mha"):
        found = outside_of(tmp_path / name, io.read_image(tmp_path / name), "percentile")
        np.testing.assert_array_equal(found, ~np.isfinite(image))


def test_background_is_air_black_or_white():
    volume = io.Volume(head(), AFFINE)
    assert background_of(volume, None) == -1000
    assert background_of(volume, 5.5) == 5.5
    padded = head()
    padded[:3] = -3024
    assert background_of(io.Volume(padded, AFFINE), None) == -1000
    assert background_of(io.Volume(head().clip(0), AFFINE), None) == 0
    picture = np.full((12, 14, 3), (255, 250, 240), np.uint8)
    picture[3:9, 4:10] = 60
    np.testing.assert_array_equal(background_of(io.Volume(picture, reversed_affine(np.ones(2))), None), (255, 250, 240))
    black = io.Volume(255 - picture, reversed_affine(np.ones(2)))
    np.testing.assert_array_equal(background_of(black, None), (0, 0, 0))
    np.testing.assert_array_equal(background_of(black, 9), (9, 9, 9))


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    inside = head() > -1000
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] = 1
    for name, array, affine in (
        ("image", head(), AFFINE),
        ("labels", 3 * inside.astype(np.uint8), AFFINE),
        ("soft", 0.25 * inside.astype(np.float32), AFFINE),
        ("short", inside[1:].astype(np.uint8), AFFINE),
        ("elsewhere", inside.astype(np.uint8), elsewhere),
        ("empty", np.zeros(inside.shape, np.uint8), AFFINE),
        ("percent", 100 * inside.astype(np.float32), AFFINE),
    ):
        io.write_image(folder / f"{name}.nii.gz", array, affine)
    return folder


def test_masks_of_integers_are_binary_and_floats_are_soft(masks):
    volume, inside = io.Volume(head(), AFFINE), head() > -1000
    for name, weight in (("labels", 1), ("soft", 0.25)):
        mask = read_mask(masks / f"{name}.nii.gz", volume, masks / "image.nii.gz")
        assert mask.dtype == np.float32
        np.testing.assert_array_equal(mask, weight * inside)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "has shape (19, 18, 16), but"),
        ("elsewhere", "lies elsewhere in space than"),
        ("empty", "is empty; a mask is above 0 where the image counts"),
        ("percent", "has values from 0 to 100; a mask has values in [0, 1]"),
        ("nowhere", "not found"),
    ],
)
def test_masks_that_do_not_fit_are_refused_in_one_line(masks, name, message):
    with pytest.raises(UserError) as error:
        read_mask(masks / f"{name}.nii.gz", io.Volume(head(), AFFINE), masks / "image.nii.gz")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mask_with_exchanged_axes_of_a_square_picture_is_refused(tmp_path):
    picture = io.Volume(np.zeros((12, 12), np.uint8), reversed_affine(np.ones(2)))
    io.write_image(tmp_path / "mask.nii.gz", np.eye(12, dtype=np.uint8), np.eye(3))
    with pytest.raises(UserError, match="lies elsewhere in space"):
        read_mask(tmp_path / "mask.nii.gz", picture, tmp_path / "picture.png")


def test_a_background_that_a_picture_cannot_hold_is_refused(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (12, 14), dtype=np.uint8)
    for name in ("fixed.png", "moving.png"):
        io.write_image(tmp_path / name, picture, reversed_affine(np.ones(2)))
    for background in (300, -5):
        options = Options(tmp_path / "fixed.png", tmp_path / "moving.png", tmp_path / "out", background=background)
        with pytest.raises(UserError, match=f"--background={background}: .*moving.png has values from 0 to 255"):
            read_pair(options)


def test_a_white_picture_in_a_file_has_a_white_background(tmp_path):
    picture = np.full((12, 14), 250, np.uint8)
    picture[3:9, 4:10] = 60
    PIL.Image.fromarray(picture).save(tmp_path / "picture.png")
    assert background_of(io.read_image(tmp_path / "picture.png"), None) == 250
