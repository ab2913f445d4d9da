"""The similarity of learned features: its value by NumPy, weights, channels, contrasts, and what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import air_jax
from air_jax import OptionError
from air_jax.losses import make_objective
from air_jax.models import MatchingAiR, Segmenter
from air_jax.optimize import DenseField


@functools.cache
def shapes():
    registration = air_jax.load_pretrained("shapes-2d")
    return registration, jax.jit(air_jax.feature_similarity(registration))


def blobs(seed, size=(14, 17), batch=2):
    """Images of smooth random grey values, `[B, *S, 1]` in [0, 1]."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(batch, *size, 1)), (0, 2, 2, 0))
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def by_numpy(features, fixed, warped, weights):
    """Mean over patches of one minus the cosine, with a weight for each patch."""
    f, g = (np.asarray(features(image), np.float64) for image in (fixed, warped))
    lengths = np.sqrt(np.sum(f**2, axis=-1) * np.sum(g**2, axis=-1) + 1e-3)
    distance = 1 - np.sum(f * g, axis=-1) / lengths
    return np.sum(weights * distance, axis=(1, 2)) / np.sum(weights, axis=(1, 2))


def test_value_agrees_with_numpy():
    registration, similarity = shapes()
    fixed, moving = blobs(0), blobs(1)
    features = functools.partial(registration.model.features, registration.params)
    value = similarity(fixed, moving)
    np.testing.assert_allclose(value, by_numpy(features, fixed, moving, np.ones((2, 7, 9))), rtol=1e-4)
    assert np.all(np.asarray(value) > 5 * np.asarray(similarity(fixed, fixed)))


def test_patches_count_as_their_least_voxel():
    registration, similarity = shapes()
    fixed, moving = blobs(0), blobs(1)
    weights = np.ones((2, 14, 17), np.float32)
    weights[:, 9:, :] = 0.5
    weights[:, :, 12:] = 0
    features = functools.partial(registration.model.features, registration.params)
    # Patches of 6 voxels every 2 voxels: patch i covers voxels 2 i - 2 to 2 i + 3.
    patches = np.ones((2, 7, 9))
    patches[:, 3:, :] = 0.5
    patches[:, :, 5:] = 0
    images = (np.where(weights[..., None] > 0, image, 0) for image in (fixed, moving))
    expected = by_numpy(features, *images, patches)
    hidden = np.where(weights[..., None] > 0, moving, np.nan)
    np.testing.assert_allclose(similarity(fixed, hidden, weights=weights), expected, rtol=1e-4)


def test_a_negative_has_almost_the_same_features():
    _, similarity = shapes()
    fixed, moving = blobs(0), blobs(1)
    np.testing.assert_allclose(similarity(fixed, 1 - moving), similarity(fixed, moving), rtol=1e-4)


def test_each_channel_is_compared_by_itself():
    _, similarity = shapes()
    fixed, moving = blobs(0), blobs(1)
    both = similarity(np.concatenate([fixed, moving], axis=-1), np.concatenate([moving, moving], axis=-1))
    np.testing.assert_allclose(both, (similarity(fixed, moving) + similarity(moving, moving)) / 2, rtol=1e-4)


@pytest.mark.slow
def test_a_known_deformation_is_found_across_contrasts():
    """The moving image has remapped grey values, rising and falling; local correlation then fails."""
    size = (40, 44)
    moving = blobs(2, size)
    points = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    true = (2 * np.sin(points[..., ::-1] / 7))[None].astype(np.float32)
    fixed = np.asarray(air_jax.warp(moving, np.repeat(true, 2, axis=0), mode="nearest"))
    remapped = np.interp(moving, (0, 0.25, 0.5, 0.75, 1), (0.4, 1, 0.1, 0.7, 0)).astype(np.float32)
    errors = {}
    for name, similarity in {"lncc": "lncc", "features": air_jax.feature_similarity(shapes()[0])}.items():
        registration = air_jax.without_model(2, similarity=similarity)
        found = registration.register(fixed, remapped, normalized=True).displacement
        inner = np.asarray(found - true)[:, 4:-4, 4:-4]
        errors[name] = float(np.mean(np.linalg.norm(inner, axis=-1)))
    before = float(np.mean(np.linalg.norm(true[:, 4:-4, 4:-4], axis=-1)))
    assert errors["features"] < 0.5 * before < errors["lncc"], (before, errors)


@pytest.mark.parametrize("shape", [(13, 10), (9, 8, 11)])
def test_weights_of_1_change_nothing_on_a_coarser_level(shape):
    model = MatchingAiR(downsampling=(2,), stride=(2,), patch_size=(6,), num_steps=(1,), radius=(1,), width=4)
    images = np.random.default_rng(0).random((2, 1, *shape, 1), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), *images)["params"]
    registration = air_jax.Registration(model, params, (*shape, 1), 0, make_objective("mse"), DenseField())
    similarity = air_jax.feature_similarity(registration)
    weighted = similarity(*images, weights=np.ones((1, *shape), np.float32))
    np.testing.assert_allclose(weighted, similarity(*images), rtol=1e-6)


def test_what_has_no_features_is_refused():
    """A segmenter has an option of the name `features`."""
    segmenter = dataclasses.replace(air_jax.without_model(2), model=Segmenter(num_classes=2, features=(4,)))
    for registration, name in ((air_jax.without_model(2), "Identity"), (segmenter, "Segmenter")):
        with pytest.raises(OptionError, match=f"{name}'.* has no features"):
            air_jax.feature_similarity(registration)


@pytest.mark.parametrize(("shape", "channels"), [((4, 6, 6, 1), 1), ((1, 8, 8, 3), 2)])
def test_shapes_that_the_model_has_not_learned_are_refused(shape, channels):
    model = MatchingAiR(downsampling=(1,), stride=(2,), patch_size=(2,), num_steps=(1,), radius=(1,))
    registration = air_jax.Registration(model, {}, (8, 8, channels), 0, make_objective("mse"), DenseField())
    image = np.zeros((1, *shape) if len(shape) == 4 and channels == 1 else shape, np.float32)
    with pytest.raises(ValueError, match="the model has learned 2 spatial axes"):
        air_jax.feature_similarity(registration)(image, image)
