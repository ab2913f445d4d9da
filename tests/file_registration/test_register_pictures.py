"""Two pictures registered from files: colours, sizes, pixel units and value ranges are kept."""

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from air_jax import io
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.io.space import reversed_affine

pytestmark = pytest.mark.slow


def picture(shape, offset, dtype=np.uint8):
    """Returns a picture of blobs of three colours on white."""
    rows, columns = np.indices(shape)
    colours = np.zeros((*shape, 3))
    for centre, colour in (((18, 15), (0.9, 0.6, 0.1)), ((30, 32), (0.1, 0.7, 0.8)), ((14, 36), (0.5, 0.1, 0.9))):
        row, column = np.add(centre, offset)
        colours += np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 50)[..., None] * colour
    return np.round((1 - np.clip(colours, 0, 1)) * 255).astype(dtype)


def test_colour_pictures_of_different_sizes_are_registered_in_pixels(tmp_path):
    fixed, moving = picture((44, 47), (0, 0)), picture((48, 46), (4, 3))
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
            affine="rigid",  # the program of test_affine_parts.py
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
    coordinates = np.moveaxis(np.indices((44, 47)).transpose(1, 2, 0) + displacement.astype(np.float64), -1, 0)
    for channel in range(3):
        expected = scipy.ndimage.map_coordinates(
            moving[..., channel].astype(float), coordinates, order=1, mode="grid-constant", cval=255
        )
        np.testing.assert_allclose(warped[..., channel], expected, atol=0.51)
    np.testing.assert_allclose(scores["before"]["tre_mean_pixels"], 5, rtol=1e-5)
    assert scores["after"]["tre_mean_pixels"] < 0.5
    assert scores["after"]["tre_inverse_mean_pixels"] < 0.5


def test_a_tiff_of_floats_keeps_its_values(tmp_path, without_report):
    """A TIFF of 32 bits may have values outside of the range of 8 and 16 bits."""
    values = picture((30, 40), (0, 0))[..., 0].astype(np.float32) * 4 - 100
    PIL.Image.fromarray(values).save(tmp_path / "image.tif")
    register_files(Options(*[tmp_path / "image.tif"] * 2, tmp_path / "out", affine="none", refine_steps=0))
    (warped,) = (tmp_path / "out").glob("warped.*")
    np.testing.assert_array_equal(io.read_image(warped).array, values)
