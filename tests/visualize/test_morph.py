"""A morph begins with the fixed image, ends with the moving one, and keeps both aligned on the way."""

import io

import numpy as np
import pytest
from PIL import Image

from air_jax.visualize import morph_frames, morph_gif


def shifted_pair(shift=4):
    """A blob, and the same blob `shift` pixels further right; the displacement is the shift everywhere."""
    y, x = np.mgrid[:16, :24].astype(np.float32)
    fixed, moving = (np.exp(-((x - at) ** 2 + (y - 8) ** 2) / 8)[None, ..., None] for at in (9, 9 + shift))
    displacement = np.zeros((1, 16, 24, 2), np.float32)
    displacement[..., 1] = shift
    return fixed, moving, displacement


def test_frames_go_from_the_fixed_image_to_the_moving_one_without_a_ghost():
    fixed, moving, displacement = shifted_pair()
    frames = morph_frames(fixed, moving, displacement, num_frames=3)
    np.testing.assert_allclose(frames[0], fixed, atol=1e-4)
    np.testing.assert_allclose(frames[2], moving, atol=1e-4)
    half = shifted_pair(2)[1]  # one blob halfway, not two faint ones
    np.testing.assert_allclose(frames[1][..., 4:-4, :], half[..., 4:-4, :], atol=1e-3)


def test_the_picture_goes_there_and_back_for_ever():
    fixed, moving, displacement = shifted_pair()
    pair = (np.concatenate([array, array]) for array in (fixed, moving, displacement))
    picture = Image.open(io.BytesIO(morph_gif(*pair, num_frames=3, scale=2)))
    assert picture.size == (2 * 2 * 24, 2 * 16)
    assert (picture.n_frames, picture.info["loop"]) == (4, 0)
    with pytest.raises(ValueError, match="num_frames=1"):
        morph_frames(fixed, moving, displacement, num_frames=1)
