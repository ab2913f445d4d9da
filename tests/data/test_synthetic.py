"""Synthetic pairs: noise, label maps, contrasts, deformations, and the source of shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from air_jax.data import shapes as source
from air_jax.data.synthetic.contrast import Contrast, draw_images
from air_jax.data.synthetic.noise import multiscale_noise, smooth_noise
from air_jax.data.synthetic.pairs import Synthesis, synthesize
from air_jax.data.synthetic.shapes import Shapes, draw_shapes
from air_jax.errors import OptionError

SHAPE, SHAPES = (32, 30), Shapes()
CLEAN = Contrast(noise=0.0, black=0.0, blur=0.0, bias=0.0)


KEYS = jax.random.split(jax.random.key(0), 40)


@jax.jit
def draw(keys):
    """A label map of each key, and a pair of each map."""
    maps = draw_shapes(keys, SHAPE, SHAPES)
    return maps, synthesize(keys, maps, SHAPES.label_ids, Synthesis(contrast=CLEAN))


@pytest.fixture(scope="module")
def drawn():
    return jax.device_get(draw(KEYS))


def test_noise_has_the_amplitude_that_is_asked_for():
    keys = jax.random.split(jax.random.key(0), 200)
    noise = np.asarray(jax.jit(jax.vmap(lambda key: smooth_noise(key, (16, 18), 5, 2)))(keys))
    assert noise.shape == (200, 16, 18, 2)
    np.testing.assert_allclose(np.sqrt(np.square(noise).mean(axis=(0, 1, 2))), 1, rtol=0.1)
    sums = jax.jit(jax.vmap(lambda key: multiscale_noise(key, (16, 18), (3, 6), 1, largest=(2.0, 3.0))))(keys)
    expected = np.sqrt((2**2 + 3**2) / 3)  # of uniform amplitudes
    np.testing.assert_allclose(np.sqrt(np.square(np.asarray(sums)).mean()), expected, rtol=0.15)


def test_label_maps_have_regions_and_strokes(drawn):
    maps, _ = drawn
    assert maps.shape == (40, *SHAPE)
    assert set(np.unique(maps)) == {0, *SHAPES.label_ids}
    numbers = [len(np.unique(each)) for each in maps]
    assert min(numbers) >= 2
    assert max(numbers) > min(numbers) + 1
    strokes = [each == SHAPES.label_ids[-1] for each in maps]
    present = [each for each in strokes if each.sum() > 30]
    assert 10 < len(present) < 30  # half of the maps
    widths = [2 * ndimage.distance_transform_edt(each).max() for each in present]
    assert np.median(widths) < 10
    assert 0 not in np.ptp(maps.reshape(40, -1), axis=1)


def test_a_pair_has_two_contrasts_and_the_true_displacement(drawn):
    _, pair = drawn
    grid = np.stack(np.indices(SHAPE), axis=-1)
    inside = (slice(4, -4),) * 2
    agreements, before = [], []
    for fixed, moving, truth in zip(pair.fixed_segmentation, pair.moving_segmentation, pair.displacement, strict=True):
        points = np.moveaxis(grid + truth, -1, 0)
        warped = ndimage.map_coordinates(moving, points, order=0, mode="nearest")
        agreements.append(np.mean((warped == fixed)[inside]))
        before.append(np.mean((moving == fixed)[inside]))
    assert np.mean(agreements) > 0.95 > 0.9 > np.mean(before)
    assert pair.fixed.shape == (40, *SHAPE, 1)
    for images, segmentations in ((pair.fixed, pair.fixed_segmentation), (pair.moving, pair.moving_segmentation)):
        assert images.min() >= 0
        np.testing.assert_allclose(images.max(axis=(1, 2, 3)), 1, atol=1e-5)
        for image, segmentation in zip(images, segmentations, strict=True):
            for label in np.unique(segmentation):  # without noise, blur and bias a label has one grey value
                assert np.ptp(image[segmentation == label]) < 1e-5
    assert not np.allclose(pair.fixed, pair.moving, atol=0.1)


def test_a_pair_is_a_function_of_its_key(drawn):
    jax.tree.map(
        lambda found, known: np.testing.assert_allclose(found, known[::-1], atol=1e-4), draw(KEYS[::-1]), drawn
    )


def test_contrast_changes_grey_values_as_its_options_say():
    labels = np.repeat([[0, 5, 9, 300]], 40, axis=0)[None] * np.ones((60, 1, 1), int)  # 300 is background
    keys = jax.random.split(jax.random.key(1), 60)

    def images(**options):
        contrast = Contrast(**dict(noise=0.0, black=0.0, blur=0.0, bias=0.0, gamma=0.0) | options)
        return np.asarray(jax.jit(lambda keys: draw_images(keys, jnp.asarray(labels), (5, 9), contrast))(keys))[..., 0]

    clean, noisy = images(), images(noise=0.2, black=1.0)
    np.testing.assert_array_equal(clean[..., 3], clean[..., 0])
    assert not np.allclose(clean[..., 1], clean[..., 2])
    np.testing.assert_allclose(noisy[..., [0, 3]], 0, atol=1e-5)
    assert 0.03 < np.median(noisy[..., 1].std(axis=1)) < 0.25
    np.testing.assert_allclose(clean.std(axis=1), 0, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.slow
def test_the_source_has_pairs_of_consecutive_images_in_three_parts():
    drawn = source.draw((12, 12), (3, 2, 1), SHAPES, Synthesis())
    assert drawn.images.images.shape == (12, 12, 12, 1)
    assert drawn.images.images.dtype == np.uint8
    np.testing.assert_array_equal(drawn.images.pairs, np.arange(12).reshape(6, 2))
    assert list(drawn.parts) == ["train"] * 6 + ["validation"] * 4 + ["test"] * 2
    agree = drawn.images.segmentations[::2] == drawn.images.segmentations[1::2]
    assert 0.5 < agree.mean() < 1
    assert len({image.tobytes() for image in drawn.images.images}) == 12


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Shapes, {"num_regions": 1}, "num_regions=1: must be at least 2"),
        (Shapes, {"warp": -1.0}, "warp=-1.0: must not be negative"),
        (Contrast, {"gamma": -1.0}, "gamma=-1.0: must not be negative"),
        (Synthesis, {"spacings": ()}, r"spacings=\(\): needs at least one number"),
    ],
)
def test_wrong_settings_are_refused(kind, options, message):
    with pytest.raises(OptionError, match=message):
        kind(**options)
