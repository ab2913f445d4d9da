"""Losses of segmentations against loops in float64, and label ids that one side or both lack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from air_jax import warp
from air_jax.losses import dice_loss, one_hot, pooled_dice_loss, segmentation_loss
from air_jax.metrics import label_dice


def reference(fixed, warped):
    losses = []
    for f, w in zip(fixed.astype(np.float64), warped.astype(np.float64), strict=True):
        scores = []
        for label in range(f.shape[-1]):
            a, b = f[..., label], w[..., label]
            if a.any() or b.any():
                scores.append(2 * np.sum(a * b) / (a.sum() + b.sum()))
        losses.append(1 - np.mean(scores) if scores else 0.0)
    return np.array(losses)


def segmentations(shape=(6, 7), batch=5, num_labels=3):
    """Soft segmentations. A channel is empty on one side of pairs 1 and 2, on both of 3; all channels of pair 4 are."""
    fixed, warped = np.random.default_rng(0).random((2, batch, *shape, num_labels), dtype=np.float32)
    fixed[1, ..., 0] = warped[2, ..., 1] = 0
    fixed[3, ..., 2] = warped[3, ..., 2] = 0
    fixed[4] = warped[4] = 0
    return fixed, warped


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_dice_loss_agrees_with_its_reference(shape):
    pair = segmentations(shape)
    losses = jax.jit(dice_loss)(*map(jnp.asarray, pair))
    assert losses.shape == (5,)
    np.testing.assert_allclose(losses, reference(*pair), rtol=1e-5)


def test_dice_loss_of_integer_segmentations_agrees_with_the_score():
    rng = np.random.default_rng(0)
    fixed, warped = rng.integers(0, 4, (2, 3, 6, 7))
    label_ids = (3, 1)
    losses = dice_loss(*(one_hot(jnp.asarray(side), label_ids) for side in (fixed, warped)))
    np.testing.assert_allclose(losses, 1 - label_dice(fixed, warped, label_ids).mean(-1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_pooled_dice_loss_is_that_of_all_channels_together(shape):
    fixed, warped = segmentations(shape)
    found = jax.jit(pooled_dice_loss)(jnp.asarray(fixed), jnp.asarray(warped))
    expected = [
        1 - 2 * np.sum(f * w) / (f.sum() + w.sum()) if f.any() else 0.0
        for f, w in zip(fixed.astype(np.float64), warped.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_pooled_dice_loss_weighs_voxels_of_small_and_large_structures_alike():
    """Structures of 2 and 40 voxels at 0.5: pooled, the derivatives are equal; in the mean, one is 20 times larger."""
    fixed = np.zeros((1, 6, 7, 2), np.float32)
    fixed[0, 0, :2, 0] = 1
    fixed[0, ..., 1] = 1 - fixed[0, ..., 0]
    losses = pooled_dice_loss, dice_loss
    pooled, mean = (jax.grad(lambda w, loss=loss: loss(fixed, w).sum())(0.5 * fixed) for loss in losses)
    np.testing.assert_allclose(pooled[0, 0, 0, 0], pooled[0, 5, 5, 1], rtol=1e-5)
    np.testing.assert_allclose(mean[0, 0, 0, 0], 20 * mean[0, 5, 5, 1], rtol=1e-5)


def test_empty_channels_by_hand():
    whole, half, empty = (jnp.full((1, 2, 2), value) for value in (1.0, 0.5, 0.0))

    def loss(fixed, warped):
        return float(dice_loss(jnp.stack(fixed, axis=-1), jnp.stack(warped, axis=-1))[0])

    assert loss([whole, whole], [whole, whole]) == 0
    assert loss([whole, whole], [whole, empty]) == 0.5  # empty on one side: overlap 0
    assert loss([whole, empty], [whole, empty]) == 0  # empty on both sides: left out
    assert loss([whole, empty], [empty, empty]) == 1
    assert loss([empty, empty], [empty, empty]) == 0
    np.testing.assert_allclose(loss([whole], [half]), 1 - 2 * 0.5 / 1.5, rtol=1e-6)
    np.testing.assert_allclose(loss([half], [half]), 0.5, rtol=1e-6)


@pytest.mark.parametrize("argument", [0, 1])
def test_gradients_agree_with_differences_and_are_finite_for_empty_channels(argument):
    with jax.enable_x64(True):
        pair = [jnp.asarray(side, jnp.float64) for side in segmentations()]
        # Empty channels stay empty, because the mean is over the others.
        present = sum(side.sum((1, 2), keepdims=True) for side in pair) > 0
        direction = jnp.asarray(np.random.default_rng(1).standard_normal(pair[0].shape)) * present
        weights = jnp.asarray([1.0, -0.5, 0.7, 0.3, 2.0])

        @jax.jit
        def along(step):
            moved = list(pair)
            moved[argument] = moved[argument] + step * direction
            return jnp.sum(weights * dice_loss(*moved))

        slope, curvature = jax.jit(lambda at: jax.jvp(jax.grad(along), (at,), (1.0,)))(0.0)
        np.testing.assert_allclose(slope, (along(1e-6) - along(-1e-6)) / 2e-6, rtol=1e-5)
        assert np.isfinite(curvature)
    gradient = jax.jit(jax.grad(lambda *pair: dice_loss(*pair).sum(), argument))(*map(jnp.asarray, segmentations()))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[:3]).sum((1, 2, 3)).min() > 0
    np.testing.assert_array_equal(gradient[3, ..., 2], 0)
    np.testing.assert_array_equal(gradient[4], 0)


def test_pairs_are_independent():
    fixed, warped = map(jnp.asarray, segmentations())
    together = dice_loss(fixed, warped)
    np.testing.assert_allclose(dice_loss(fixed.at[0].set(jnp.nan), warped)[1:], together[1:], rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(dice_loss)(fixed[:, None], warped[:, None])[:, 0], together, rtol=1e-6)


def test_bfloat16_is_summed_in_float32():
    fixed, warped = (jnp.asarray(side, jnp.bfloat16) for side in segmentations((40, 40)))
    exact = dice_loss(fixed.astype(jnp.float32), warped.astype(jnp.float32))
    np.testing.assert_allclose(dice_loss(fixed, warped), exact, rtol=1e-6)


def test_gradient_through_the_warp_points_to_the_right_place():
    """A moving square that is warped as one-hot channels."""
    segmentation = np.zeros((1, 12, 12), np.int32)
    segmentation[0, 4:8, 4:8] = 7
    fixed, moving = (one_hot(jnp.asarray(array), (7,)) for array in (segmentation, np.roll(segmentation, 1, axis=1)))

    def loss(shift):
        displacement = jnp.broadcast_to(shift, (1, 12, 12, 2))
        return dice_loss(fixed, warp(moving, displacement))[0]

    value_and_slope = jax.jit(jax.value_and_grad(loss))
    assert float(value_and_slope(jnp.asarray([1.0, 0.0]).reshape(1, 1, 1, 2))[0]) == 0
    value, slope = value_and_slope(jnp.asarray([0.25, 0.0]).reshape(1, 1, 1, 2))  # a quarter of the way
    assert 0 < float(value) < 0.25
    assert float(slope[0, 0, 0, 0]) < -0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_one_hot(dtype, shape):
    segmentation = np.random.default_rng(0).integers(0, 6, (2, *shape)).astype(dtype)
    label_ids = (5, 2, 300)  # 300 does not occur, and does not fit into uint8
    found = one_hot(jnp.asarray(segmentation), label_ids)
    assert found.shape == (2, *shape, 3)
    assert found.dtype == jnp.float32
    for channel, label_id in enumerate(label_ids):
        np.testing.assert_array_equal(found[..., channel], segmentation.astype(int) == label_id)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dice_loss(jnp.zeros((1, 4, 5, 2)), jnp.zeros((1, 4, 5, 3))), "dice_loss: fixed has shape"),
        (lambda: dice_loss(jnp.zeros((1, 4, 5, 2)), jnp.zeros((1, 4, 5, 1))), "dice_loss: fixed has shape"),
        (lambda: dice_loss(jnp.zeros((4, 5)), jnp.zeros((4, 5))), "dice_loss: fixed has shape"),
        (lambda: pooled_dice_loss(jnp.zeros((1, 4, 5, 2)), jnp.zeros((1, 4, 5, 3))), "pooled_dice_loss: fixed has"),
        (lambda: one_hot(jnp.zeros((1, 4, 5)), (1,)), "one_hot: segmentation has dtype float32"),
        (lambda: one_hot(jnp.zeros((1, 4, 5), int), ()), r"label_ids=\[\]: give at least one"),
        (
            lambda: segmentation_loss(jnp.zeros((1, 4, 5, 2)), jnp.zeros((1, 4, 1), int), (1,)),
            r"segmentation_loss: logits has shape \(1, 4, 5, 2\) and segmentation has shape \(1, 4, 1\)",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_segmentation_loss_agrees_with_its_reference(shape):
    rng = np.random.default_rng(0)
    logits, segmentation = rng.normal(size=(3, *shape, 3)), rng.integers(0, 4, (3, *shape))
    label_ids = (3, 1)  # 2 counts as background
    compute = jax.jit(segmentation_loss, static_argnums=2)
    losses = compute(jnp.asarray(logits, jnp.float32), jnp.asarray(segmentation), label_ids)
    probabilities = softmax(logits, axis=-1)
    known = np.stack([np.isin(segmentation, (0, 2)), segmentation == 3, segmentation == 1], axis=-1)
    entropy = -np.log(probabilities[known]).reshape(3, -1).mean(1)
    np.testing.assert_allclose(losses, entropy + reference(known[..., 1:], probabilities[..., 1:]), rtol=1e-5)


@pytest.mark.slow
def test_segmentation_loss_of_certain_predictions():
    segmentation = jnp.asarray([[[0, 1, 1], [2, 0, 2]]])
    certain = 200.0 * jnp.concatenate([segmentation[..., None] == 0, one_hot(segmentation, (1, 2))], axis=-1)
    np.testing.assert_allclose(segmentation_loss(certain, segmentation, (1, 2)), 0, atol=1e-6)
    gradient = jax.grad(lambda logits: jnp.sum(segmentation_loss(logits, segmentation, (1, 2))))(-certain)
    assert np.all(np.isfinite(gradient))
    with pytest.raises(ValueError, match="3 channels for 1 label ids"):
        segmentation_loss(certain, segmentation, (1,))
