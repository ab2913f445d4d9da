"""Alignment of frames: motions that SciPy's cubic interpolation put in are found again."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from scipy.spatial.transform import Rotation

from air_jax import OptionError
from air_jax.optimize import Geometry, align_frames

SIZES = {2: (1.5, 1.0), 3: (1.0, 1.5, 2.0)}


def scene(num_axes, seed=0):
    """Returns a smooth image of blobs on a dark background, `[24, 28(, 16)]`."""
    rng = np.random.default_rng(seed)
    shape = (24, 28, 16)[:num_axes]
    inner = tuple(slice(5, -5) if size > 16 else slice(4, -4) for size in shape)
    image = np.zeros(shape)
    image[inner] = rng.random([len(range(size)[part]) for size, part in zip(shape, inner, strict=True)])
    return 100 * scipy.ndimage.gaussian_filter(image, 1.5)


def moved(image, linear, shift, sizes):
    """Returns the frame that shows at `linear x + shift` (lengths, about the centre) what the image shows at x, and the
    matrix from voxels of the image to voxels of the frame.
    """
    sizes, centre = np.array(sizes), (np.array(image.shape) - 1) / 2
    matrix = linear * sizes / sizes[:, None]
    offset = centre + shift / sizes - matrix @ centre
    back = np.linalg.inv(matrix)
    frame = scipy.ndimage.affine_transform(image, back, -back @ offset, order=3)
    return frame, np.concatenate([matrix, offset[:, None]], axis=1)


def turn(num_axes, degrees):
    matrix = Rotation.from_euler("xyz", degrees if num_axes == 3 else [0, 0, degrees[0]], degrees=True).as_matrix()
    return matrix[:num_axes, :num_axes]


def errors(found, true, shape):
    """Distances in voxels between where both maps send the corners and the centre of the middle half."""
    points = (np.array(shape) - 1) * (0.25 + 0.5 * np.stack(np.meshgrid(*[[0, 0.5, 1]] * len(shape)), -1))
    return np.linalg.norm(points @ (found[:, :-1] - true[:, :-1]).T + (found[:, -1] - true[:, -1]), axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("num_axes", [2, 3])
def test_rigid_motions_and_brightness_are_found(num_axes):
    image, sizes = scene(num_axes), SIZES[num_axes]
    motions = [([0, 0, 0], [0, 0, 0]), ([2, -1, 1.5], [0.4, -0.3, 0.6]), ([-6, 3, 4], [2.5, 1.5, -2.0])]
    frames, true = zip(
        *(moved(image, turn(num_axes, angles), np.array(shift[:num_axes]), sizes) for angles, shift in motions),
        strict=True,
    )
    frames = np.stack(frames) * np.array([1, 1.1, 0.8]).reshape(3, *[1] * num_axes)
    found = align_frames(
        jnp.asarray(image, jnp.float32), jnp.asarray(frames, jnp.float32), geometry=Geometry(voxel_size=sizes)
    )
    for matrix, expected in zip(np.asarray(found), true, strict=True):
        assert errors(matrix, expected, image.shape).max() < 0.02
        lengths = matrix[:, :-1] * np.array(sizes)[:, None] / sizes
        np.testing.assert_allclose(lengths @ lengths.T, np.eye(num_axes), atol=1e-5)


@pytest.mark.slow
def test_an_affine_is_found_and_a_translation_only_moves():
    image = scene(2)
    linear = np.array([[1.05, 0.02], [0.02, 0.96]]) @ turn(2, [3])
    frame, true = moved(image, linear, np.array([0.7, -1.2]), (1, 1))
    found = align_frames(*(jnp.asarray(array, jnp.float32) for array in (image, frame[None])), kind="affine")
    # The smoothing of the reference and that of the stretched frame differ a little.
    assert errors(np.asarray(found[0]), true, image.shape).max() < 0.04
    frame, true = moved(image, np.eye(2), np.array([1.3, -0.8]), (1, 1))
    found = align_frames(*(jnp.asarray(array, jnp.float32) for array in (image, frame[None])), kind="translation")
    np.testing.assert_allclose(found[0], true, atol=0.01)
    np.testing.assert_array_equal(found[0, :, :2], np.eye(2))


@pytest.mark.slow
def test_what_does_not_count_has_no_influence():
    image = scene(2)
    frame, true = moved(image, turn(2, [2]), np.array([0.6, -0.4]), (1, 1))
    spoilt = frame.copy()
    spoilt[:8] = 300
    weights = np.ones(image.shape, np.float32)
    weights[:12] = 0  # the smoothing reaches some voxels further than what is spoilt
    images = (jnp.asarray(array, jnp.float32) for array in (image, spoilt[None]))
    found = align_frames(*images, weights=jnp.asarray(weights), geometry=Geometry(jnp.asarray(true, jnp.float32)[None]))
    assert errors(np.asarray(found[0]), true, image.shape).max() < 0.1


def test_arguments_that_do_not_fit_are_refused():
    image = jnp.zeros((8, 8))
    with pytest.raises(OptionError, match="kind"):
        align_frames(image, image[None], kind="projective")
    with pytest.raises(ValueError, match=r"frames \(1, 8, 9\)"):
        align_frames(image, jnp.zeros((1, 8, 9)))
    with pytest.raises(ValueError, match="weights has shape"):
        align_frames(image, image[None], weights=jnp.ones((8, 9)))
    with pytest.raises(ValueError, match=r"geometry\.matrix"):
        align_frames(image, image[None], geometry=Geometry(jnp.zeros((2, 2, 3))))
