"""Registration of arrays: a model, instance optimisation, both; `load` of folders that are no runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from registration_helpers import blobs, images

import air_jax
from air_jax.errors import OptionError
from air_jax.losses import make_objective
from air_jax.optimize import BSplineField, DenseField, refine
from air_jax.registration import registration as module
from air_jax.transforms import with_edges
from air_jax.transforms.intensity import WINDOWS, normalize

OBJECTIVE = make_objective("mse", folding=5.0)
FIELD = BSplineField(levels=((1, 2),))


def trained(shape=(28, 28), channels=1, **settings):
    model = air_jax.AiR(patch_size=7 if len(shape) == 2 else 4)
    image = np.zeros((1, *shape, channels), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), image, image)["params"]
    kernel = params["head"]["kernel"]  # zero at first
    params["head"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    return air_jax.Registration(model, params, (*shape, channels), 0, OBJECTIVE, FIELD, **settings)


# ---- Images ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(28, 28), (8, 8, 12)])
def test_leading_axes_are_those_of_the_images(shape):
    register = trained(shape).register
    fixed, moving = images(3, *shape, 1)
    whole = register(fixed, moving)
    assert whole.displacement.shape == (3, *shape, len(shape))
    assert whole.warped.shape == fixed.shape
    np.testing.assert_allclose(whole.warped, air_jax.warp(moving, whole.displacement), atol=1e-6)
    batch = register(fixed[..., 0], moving[..., 0])
    np.testing.assert_array_equal(batch.displacement, whole.displacement)
    np.testing.assert_array_equal(batch.warped, whole.warped[..., 0])
    one = register(fixed[0, ..., 0], moving[0, ..., 0])
    assert one.displacement.shape == (*shape, len(shape))
    np.testing.assert_allclose(one.displacement, whole.displacement[0], atol=1e-5)
    assert one.warped.shape == shape


def test_integers_are_scaled_by_their_range():
    register = trained().register
    fixed, moving = (np.random.default_rng(0).random((2, 28, 28)) * 255).astype(np.uint8)
    a, b = register(fixed, moving), register(fixed / np.float32(255), moving / np.float32(255))
    np.testing.assert_allclose(a.displacement, b.displacement, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("window", WINDOWS)
def test_raw_images_are_normalised_each_by_itself(window):
    fixed, moving = images(2, 28, 28)
    if window == "ct":
        fixed, moving = fixed * 900 - 500, moving * 300 - 100
    elif window != "range":
        fixed, moving = fixed * 900 - 3, (moving * 300).astype(np.int32)
    registration = trained(normalization=window)
    by_hand = [np.stack([normalize(image, window) for image in side]) for side in (fixed, moving)]
    for raw, expected in zip((fixed, moving), by_hand, strict=True):
        np.testing.assert_allclose(registration.normalize(raw), expected, atol=1e-6)
        np.testing.assert_allclose(registration.normalize(raw[0]), expected[0], atol=1e-6)
        assert registration.normalize(raw[..., None]).shape == (2, 28, 28, 1)
    result = registration.register(fixed, moving)
    same = registration.register(*by_hand, normalized=True)
    np.testing.assert_allclose(result.displacement, same.displacement, atol=1e-5)
    np.testing.assert_allclose(result.warped, same.warped, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        (images(28, 28)[0], images(28, 27)[0], "fixed has shape .* and moving"),
        (images(28)[0], images(28)[0], r"this model takes \[B, H, W, 1\], \[B, H, W\] or \[H, W\]"),
        (images(2, 28, 28, 3)[0], images(2, 28, 28, 3)[1], "this model takes"),
        (images(28, 28, 1)[0], images(28, 28, 1)[1], r"fixed has shape \(28, 28, 1\); this model takes"),
        (np.full((28, 28), 200), np.full((28, 28), 100), "fixed has dtype int.*, whose range tells nothing"),
        (images(28, 28)[0] * 300, images(28, 28)[0], "fixed has values from"),
        (images(28, 28)[0], images(28, 28)[0] - 1, "moving has values from"),
    ],
)
def test_images_that_do_not_fit_are_refused_in_one_line(fixed, moving, message):
    for options in ({}, {"normalized": True}):
        with pytest.raises(ValueError, match=message) as error:
            trained().register(fixed, moving, **options)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("window", ["range", "percentile", "foreground"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_not_finite_is_refused(window, value):
    """On a CPU, jnp.min and jnp.max drop NaN."""
    fixed, moving = images(28, 28)
    moving[5, 7] = value
    registration = air_jax.without_model(2, normalization=window)
    for make in (np.asarray, jnp.asarray):
        with pytest.raises(ValueError, match="moving has values that are NaN or infinite"):
            registration.register(fixed, make(moving))
    with pytest.raises(ValueError, match="moving has values that are NaN or infinite"):
        air_jax.register_images(fixed, moving, normalization=window)
    with pytest.raises(ValueError, match="image has values that are NaN or infinite"):
        registration.normalize(moving)


def test_message_of_a_window_names_the_image():
    image = np.zeros((28, 28), np.uint8)
    with pytest.raises(ValueError, match="fixed has dtype uint8, which cannot hold Hounsfield units"):
        trained(normalization="ct").register(image, image)


@pytest.mark.slow
def test_models_of_colour_images_need_the_channel_axis():
    register = trained(channels=3).register
    assert register(*images(2, 28, 28, 3)).displacement.shape == (2, 28, 28, 2)
    with pytest.raises(ValueError, match=r"this model takes \[B, H, W, 3\]$"):
        register(*images(28, 28))


@pytest.mark.slow
def test_smaller_images_get_a_margin_of_zeros():
    whole = trained()
    fixed, moving = images(1, 20, 25, 1)
    margins = [(0, 0), (4, 4), (1, 2), (0, 0)]
    framed = whole.register(np.pad(fixed, margins), np.pad(moving, margins))
    result = whole.register(fixed, moving)
    np.testing.assert_allclose(result.displacement, framed.displacement[:, 4:24, 1:26], atol=1e-6)
    np.testing.assert_allclose(result.warped, air_jax.warp(moving, result.displacement), atol=1e-6)


# ---- Refinement ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_refinement_continues_from_the_models_displacement():
    fixed, moving = blobs((28, 28), (13, 12), (15, 16), width=3.9)
    registration = dataclasses.replace(trained(), field=BSplineField())
    before, after = registration.register(fixed, moving), registration.register(fixed, moving, refine_steps=60)
    errors = [np.square(result.warped - fixed).mean() for result in (before, after)]
    assert errors[1] < 0.1 * errors[0]
    assert after.displacement.shape == (28, 28, 2)
    np.testing.assert_allclose(after.warped, air_jax.warp(moving[None], after.displacement[None])[0], atol=1e-6)
    with pytest.raises(OptionError, match="refine_steps=-1: must not be negative"):
        registration.register(fixed, moving, refine_steps=-1)


@pytest.mark.slow
def test_refine_takes_its_defaults_from_the_registration():
    fixed, moving = (image[None, ..., None] for image in blobs((28, 28), (13, 12), (15, 16)))
    registration = trained(refine_steps=20)
    default = registration.refine(fixed, moving)
    plain = refine(OBJECTIVE, fixed, moving, num_steps=20, field=FIELD)
    np.testing.assert_array_equal(default.displacement, plain.displacement)
    assert default.steps.tolist() == [20]
    other, field = make_objective("mse", diffusion=0.5), DenseField(levels=(1,))
    changed = registration.refine(fixed, moving, num_steps=10, objective=other, field=field, tolerance=2.0)
    plain = refine(other, fixed, moving, num_steps=10, field=field, tolerance=2.0)
    np.testing.assert_array_equal(changed.displacement, plain.displacement)
    assert changed.converged.tolist() == [True]


class Halves(nn.Module):
    """Three classes by brightness, scaled by a parameter; stands for a model with a segmenter."""

    segmenter: int = 0

    def __call__(self, fixed, moving, *, deterministic=True):
        return jnp.zeros((*fixed.shape[:-1], fixed.ndim - 2)), {}

    def segment(self, params, image):
        return jnp.concatenate([1 - image, params["share"] * image, (1 - params["share"]) * image], axis=-1)


@pytest.mark.slow
def test_refinement_compares_edges_and_classes():
    model = Halves(segmenter=dataclasses.make_dataclass("Classes", [("num_classes", int)], frozen=True)(3))
    fixed, moving = (image[None, ..., None] for image in blobs((20, 22), (9, 10), (11, 12)))
    params = {"share": jnp.asarray(0.25)}
    registration = air_jax.Registration(
        model, params, (24, 26, 1), 0, OBJECTIVE, FIELD, edges=True, overlap_weight=3.0, refine_steps=10
    )
    channels = registration.compared(fixed)
    expected = np.concatenate([with_edges(jnp.asarray(fixed)), 0.25 * fixed, 0.75 * fixed], axis=-1)
    np.testing.assert_allclose(channels, expected, atol=1e-6)
    objective = registration.comparing(OBJECTIVE)
    assert objective == OBJECTIVE.with_overlap(3.0, 2)
    plain = refine(objective, channels, registration.compared(moving), num_steps=10, field=FIELD)
    np.testing.assert_array_equal(registration.refine(fixed, moving).displacement, plain.displacement)


# ---- The object ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_registration_is_a_pytree_of_its_parameters():
    registration = trained()
    fixed, moving = images(1, 28, 28, 1)
    zeros = jax.tree.map(jnp.zeros_like, registration)
    assert isinstance(zeros, air_jax.Registration)
    assert jax.tree.structure(zeros) == jax.tree.structure(registration)
    np.testing.assert_array_equal(zeros.register(fixed, moving).displacement, 0)
    assert all(leaf.shape for leaf in jax.tree.leaves(registration))
    replaced = dataclasses.replace(zeros, params=registration.params)
    expected = registration.register(fixed, moving).displacement
    np.testing.assert_array_equal(replaced.register(fixed, moving).displacement, expected)
    moved = jax.device_put(registration, jax.devices()[1])
    assert moved.register(fixed, moving).displacement.devices() == {jax.devices()[1]}
    traced = jax.jit(lambda registration, *pair: registration.predict(*pair)[0])(registration, fixed, moving)
    np.testing.assert_allclose(traced, expected, atol=1e-5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        registration.params = {}
    assert "params" not in repr(registration)


@pytest.mark.slow
def test_equal_registrations_share_compiled_programs():
    fixed, moving = images(1, 28, 28, 1)
    one, two = trained(refine_steps=10), trained(refine_steps=10)
    one.register(fixed, moving)
    programs = module._predict._cache_size()
    two.register(fixed, moving)
    dataclasses.replace(two, step=7, params=jax.tree.map(jnp.zeros_like, two.params)).register(fixed, moving)
    assert module._predict._cache_size() == programs > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refine_steps": -1}, "refine_steps=-1: must not be negative"),
        ({"normalization": "best"}, "normalization='best': must be one of range, percentile"),
        ({"overlap_weight": float("nan")}, "overlap_weight=nan: must be a finite number"),
        ({"overlap_weight": 1.0}, "overlap_weight=1.0: needs a model with a segmenter"),
        ({"image_shape": (28, 28)}, r"image_shape=\(28, 28\): must be \(H, W, C\) or \(D, H, W, C\)"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(air_jax.without_model(2), **settings)


# ---- Folders ---------------------------------------------------------------------------------------------------------


def test_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(air_jax.UserError, match=r"config\.json: not found; is .* the workdir of a run"):
        air_jax.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(air_jax.UserError, match="cannot be read"):
        air_jax.load(tmp_path)
