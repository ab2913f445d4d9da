import jax
import numpy as np
import pytest

import air_jax
from air_jax.registration import Registration
from air_jax.workdir import config as configs


def registration(shape=(28, 28), channels=1):
    model = air_jax.AiR(patch_size=7 if len(shape) == 2 else 4)
    image = np.zeros((1, *shape, channels), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), image, image)["params"]
    kernel = params["head"]["kernel"]  # zero at first
    params["head"]["kernel"] = jax.random.normal(jax.random.key(1), kernel.shape)
    return Registration(model, params, (*shape, channels), step=0)


def images(*shape):
    return np.random.default_rng(0).random((2, *shape), dtype=np.float32)


@pytest.mark.parametrize("shape", [(28, 28), (8, 8, 12)])
def test_leading_axes_are_kept_as_given(shape):
    register = registration(shape).register
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
    register = registration().register
    fixed, moving = (np.random.default_rng(0).random((2, 28, 28)) * 255).astype(np.uint8)
    a, b = register(fixed, moving), register(fixed / np.float32(255), moving / np.float32(255))
    np.testing.assert_allclose(a.displacement, b.displacement, atol=1e-5)


@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        (images(28, 28)[0], images(28, 27)[0], "fixed has shape .* and moving"),
        (images(28)[0], images(28)[0], r"this model takes \[B, H, W, 1\], \[B, H, W\] or \[H, W\]"),
        (images(2, 28, 28, 3)[0], images(2, 28, 28, 3)[1], "this model takes"),
        (images(28, 28, 1)[0], images(28, 28, 1)[1], r"fixed has shape \(28, 28, 1\); this model takes"),
        (np.full((28, 28), 200), np.full((28, 28), 100), "fixed has dtype int32, whose range tells nothing"),
        (images(28, 28)[0] * 300, images(28, 28)[0], "fixed has values from"),
        (images(28, 28)[0], images(28, 28)[0] - 1, "moving has values from"),
        (images(28, 28)[0] * np.nan, images(28, 28)[0], "fixed has values from nan"),
    ],
)
def test_mistakes_are_told_in_one_line(fixed, moving, message):
    with pytest.raises(ValueError, match=message) as error:
        registration().register(fixed, moving)
    assert "\n" not in str(error.value)


def test_colour_models_need_the_channel_axis():
    register = registration(channels=3).register
    assert register(*images(2, 28, 28, 3)).displacement.shape == (2, 28, 28, 2)
    with pytest.raises(ValueError, match=r"this model takes \[B, H, W, 3\]$"):
        register(*images(28, 28))


def test_loading_what_is_no_workdir(tmp_path):
    with pytest.raises(air_jax.UserError, match=r"config\.json: not found; is .* the workdir of a run"):
        air_jax.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(air_jax.UserError, match="cannot be read"):
        air_jax.load(tmp_path)


def test_refinement_goes_on_from_the_networks_displacement():
    grid = np.stack(np.meshgrid(np.arange(28), np.arange(28), indexing="ij"), axis=-1)
    fixed, moving = (np.exp(-((grid - c) ** 2).sum(axis=-1) / 30).astype(np.float32) for c in ((13, 12), (15, 16)))
    model = registration()
    before, after = model.register(fixed, moving), model.register(fixed, moving, refine_steps=60)
    errors = [np.square(result.warped - fixed).mean() for result in (before, after)]
    assert errors[1] < 0.1 * errors[0]
    assert after.displacement.shape == (28, 28, 2)
    np.testing.assert_allclose(after.warped, air_jax.warp(moving[None], after.displacement[None])[0], atol=1e-6)
    with pytest.raises(ValueError, match="refine_steps is -1; it must not be negative"):
        model.register(fixed, moving, refine_steps=-1)


def test_loading_a_run_whose_config_lacks_keys(digits_config, tmp_path):
    with digits_config.unlocked():
        del digits_config.deformation
    configs.write(digits_config, (28, 28, 1), tmp_path)
    with pytest.raises(air_jax.UserError, match=r"lacks deformation\.amplitude"):
        air_jax.load(tmp_path)


@pytest.mark.parametrize("shape", [(24, 20), (18, 16, 17)])
def test_without_a_model_optimisation_starts_from_zero(shape):
    centre = [size / 2 for size in shape]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    fixed, moving = (
        np.exp(-((grid - np.asarray(centre) - shift) ** 2).sum(axis=-1) / 10).astype(np.float32) for shift in (0, 1.5)
    )
    registration = air_jax.without_model(len(shape), similarity="mse", refine_steps=60)
    result = registration.register(fixed, moving)
    assert result.displacement.shape == (*shape, len(shape))
    assert np.square(result.warped - fixed).mean() < 0.05 * np.square(moving - fixed).mean()
    np.testing.assert_allclose(result.displacement[tuple(size // 2 for size in shape)], 1.5, atol=0.3)
    unmoved = registration.register(fixed, moving, refine_steps=0)
    np.testing.assert_array_equal(unmoved.warped, moving)


def test_smaller_images_are_seen_in_the_frame_that_was_trained_on():
    whole = registration((28, 28))
    fixed, moving = images(1, 20, 25, 1)
    margins = [(0, 0), (4, 4), (1, 2), (0, 0)]
    framed = whole.register(np.pad(fixed, margins), np.pad(moving, margins))
    result = whole.register(fixed, moving)
    np.testing.assert_allclose(result.displacement, framed.displacement[:, 4:24, 1:26], atol=1e-6)
    np.testing.assert_allclose(result.warped, air_jax.warp(moving, result.displacement), atol=1e-6)
