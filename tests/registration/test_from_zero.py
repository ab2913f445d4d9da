"""Registration of arrays without a trained model: `without_model` and `register_images`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registration_helpers import blobs, images
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import air_jax
from air_jax.errors import OptionError
from air_jax.optimize import DenseField
from air_jax.transforms.intensity import normalize


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(24, 20), (18, 16, 17)])
def test_without_a_model_optimisation_starts_from_zero(shape):
    centre = np.array(shape) / 2
    fixed, moving = blobs(shape, centre, centre + 1.5)
    registration = air_jax.without_model(len(shape), similarity="mse", refine_steps=60)
    result = registration.register(fixed, moving)
    assert result.displacement.shape == (*shape, len(shape))
    assert result.out == {}
    assert np.square(result.warped - fixed).mean() < 0.05 * np.square(moving - fixed).mean()
    np.testing.assert_allclose(result.displacement[tuple(size // 2 for size in shape)], 1.5, atol=0.3)
    unmoved = registration.register(fixed, moving, refine_steps=0)
    np.testing.assert_array_equal(unmoved.warped, moving)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((4,), {}, "num_axes=4: must be 2 or 3"),
        ((2, 0), {}, "channels=0: must be at least 1"),
        ((2,), {"similarity": "best"}, "similarity='best': must be one of"),
        ((2,), {"diffusion": -1.0}, "diffusion=-1.0"),
        ((2,), {"refine_steps": -1}, "refine_steps=-1"),
    ],
)
def test_wrong_options_without_a_model_are_refused(arguments, options, message):
    with pytest.raises(OptionError, match=message):
        air_jax.without_model(*arguments, **options)


def test_register_images_is_without_model_on_raw_images():
    fixed, moving = blobs((24, 20), (12, 10), (13.5, 11.5))
    fixed, moving = 900 * fixed + 30, 4 * moving - 7
    options = {"similarity": "mse", "refine_steps": 60}
    result = air_jax.register_images(fixed, moving, **options)
    same = air_jax.without_model(2, normalization="percentile", **options).register(fixed, moving)
    np.testing.assert_array_equal(result.displacement, same.displacement)
    np.testing.assert_array_equal(result.warped, same.warped)
    np.testing.assert_allclose(result.displacement[12, 10], 1.5, atol=0.3)


@pytest.mark.slow
def test_register_images_composes_affine_and_deformation():
    """Two pairs of three blobs that are turned about the centre, in mm; in the second pair, one blob also moves."""
    shape, spacing = (40, 32), np.array([1.0, 1.25])
    turn = Rotation.from_euler("z", 12, degrees=True).as_matrix()[:2, :2]
    grid = np.stack(np.indices(shape), axis=-1) * spacing
    middle = (np.array(shape) - 1) / 2 * spacing
    centres = np.array([(12.0, 12.0), (28.0, 14.0), (20.0, 28.0)])
    turned = (centres - middle) @ turn.T + middle
    targets = [turned, turned + np.array([[0, 0], [0, 0], [1.5, 0]])]

    def scene(centres):
        return sum(np.exp(-((grid - c) ** 2).sum(axis=-1) / 18) * (1 + i) for i, c in enumerate(centres))

    fixed, moving = np.stack([scene(centres)] * 2), np.stack([scene(target) for target in targets])
    options = {"similarity": "mse", "spacing": spacing, "affine": "rigid", "field": DenseField(levels=(1,))}
    rigid = air_jax.register_images(fixed, moving, refine_steps=0, **options)
    result = air_jax.register_images(fixed, moving, refine_steps=40, **options)
    # The displacement of an affine is linear: its second differences are 0.
    np.testing.assert_allclose(np.diff(rigid.displacement, 2, axis=1), 0, atol=1e-4)
    for solution, target, found in ((rigid, targets[0], 0), (result, targets[0], 0), (result, targets[1], 1)):
        for centre, truth in zip(centres, (target - centres) / spacing, strict=True):
            index = tuple(np.round(centre / spacing).astype(int))
            np.testing.assert_allclose(solution.displacement[found][index], truth, atol=0.7)
    normalised = normalize(fixed[0], "percentile")
    errors = [np.square(each.warped[1] - normalised).mean() for each in (rigid, result)]
    assert errors[1] < 0.3 * errors[0]
    # One interpolation of the moving image by the whole displacement.
    raw = np.stack([normalize(image, "percentile") for image in moving])[..., None]
    np.testing.assert_allclose(result.warped, air_jax.warp(raw, result.displacement)[..., 0], atol=1e-6)


@pytest.mark.slow
def test_register_images_finds_a_turned_picture():
    """A quarter turn of a picture, to the pixel; the rows of the result are those of NumPy's."""
    picture = gaussian_filter(np.random.default_rng(0).standard_normal((32, 32)), 3).astype(np.float32)
    result = air_jax.register_images(picture, np.rot90(picture), affine="rigid", turned=True, refine_steps=0)
    here = np.moveaxis(np.indices(picture.shape), 0, -1)
    there = np.stack([31 - here[..., 1], here[..., 0]], axis=-1)
    np.testing.assert_allclose(here + result.displacement, there, atol=0.2)


def test_turns_need_an_affine_from_images():
    with pytest.raises(OptionError, match="turned=True: needs affine"):
        air_jax.register_images(np.eye(8), np.eye(8), turned=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((12, 10), {}, (12, 10, 2)),
        ((9, 10, 8), {}, (9, 10, 8, 3)),
        ((3, 12, 10), {"num_axes": 2}, (3, 12, 10, 2)),
        ((3, 12, 10), {"spacing": (1.0, 2.0)}, (3, 12, 10, 2)),
        ((1, 12, 10, 3), {"num_axes": 2}, (1, 12, 10, 2)),
        ((2, 9, 10, 8), {"num_axes": 3}, (2, 9, 10, 8, 3)),
        ((1, 9, 10, 8, 2), {}, (1, 9, 10, 8, 3)),
    ],
)
def test_axes_of_arrays_without_a_model(shape, options, expected):
    fixed, moving = images(*shape)
    assert air_jax.register_images(fixed, moving, refine_steps=0, **options).displacement.shape == expected


@pytest.mark.parametrize("shape", [(12,), (12, 10, 3), (2, 12, 10, 8)])
def test_arrays_whose_axes_are_uncertain_are_refused(shape):
    with pytest.raises(ValueError, match=r"give num_axes=2 for \[B, H, W\] or \[B, H, W, C\]"):
        air_jax.register_images(*images(*shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affine": "bent"}, "affine='bent': must be one of translation"),
        ({"normalization": "best"}, "normalization='best': must be one of range"),
        ({"refine_steps": -1}, "refine_steps=-1: must not be negative"),
        ({"spacing": (1.0, -1.0)}, "spacing=.* must be finite and above 0"),
        ({"num_axes": 2, "spacing": (1.0, 1.0, 1.0)}, "voxel_size=.* must have 2 lengths"),
        ({"field": "dense"}, "field='dense': must be an object such as DenseField"),
    ],
)
def test_wrong_options_of_register_images_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        air_jax.register_images(*images(12, 10), **options)


@pytest.mark.slow
def test_a_similarity_of_two_images_only_is_allowed_after_an_affine():
    fixed, moving = blobs((24, 20), (12, 10), (13.5, 11.5))

    def difference(fixed, warped):
        return jnp.mean(jnp.square(fixed - warped), axis=(1, 2, 3))

    options = {"similarity": difference, "affine": "translation", "refine_steps": 10}
    result = air_jax.register_images(fixed, moving, **options)
    np.testing.assert_allclose(result.displacement[12, 10], 1.5, atol=0.3)


@pytest.mark.slow
def test_registrations_run_inside_jit_and_vmap():
    fixed, moving = images(3, 12, 13)
    field = DenseField(levels=(1,))
    registration = air_jax.without_model(2, similarity="mse", field=field, refine_steps=4, normalization="percentile")
    expected = registration.register(fixed, moving)
    for transformed in (jax.jit(registration.register), jax.vmap(registration.register)):
        result = transformed(fixed, moving)
        np.testing.assert_allclose(result.displacement, expected.displacement, atol=1e-3)
        np.testing.assert_allclose(result.warped, expected.warped, atol=1e-4)


@pytest.mark.slow
def test_an_affine_runs_inside_jit():
    fixed, moving = blobs((12, 13), (6, 5.7), (7.2, 6))
    options = dict(similarity="mse", affine="translation", field=DenseField(levels=(1,)), refine_steps=2)
    expected = air_jax.register_images(fixed, moving, **options).displacement
    found = jax.jit(lambda *pair: air_jax.register_images(*pair, **options).displacement)(fixed, moving)
    np.testing.assert_allclose(found, expected, atol=0.02)
