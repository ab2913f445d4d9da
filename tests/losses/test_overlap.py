"""Losses of segmentations against plain loops in float64, and labels that a side or both lack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from air_jax import warp
from air_jax.losses import make_objective, one_hot, pooled_dice, segmentation, soft_dice, with_overlap
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


def segmentations(shape=(6, 7), batch=5, labels=3):
    """Soft ones. Pair 1 lacks a label on one side, pair 2 on the other, pair 3 on both; pair 4 has no labels at all."""
    fixed, warped = np.random.default_rng(0).random((2, batch, *shape, labels), dtype=np.float32)
    fixed[1, ..., 0] = warped[2, ..., 1] = 0
    fixed[3, ..., 2] = warped[3, ..., 2] = 0
    fixed[4] = warped[4] = 0
    return fixed, warped


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_soft_dice_agrees_with_its_reference(shape):
    pair = segmentations(shape)
    losses = jax.jit(soft_dice)(*map(jnp.asarray, pair))
    assert losses.shape == (5,)
    np.testing.assert_allclose(losses, reference(*pair), rtol=1e-5)


def test_soft_dice_of_labels_is_the_score():
    rng = np.random.default_rng(0)
    fixed, warped = rng.integers(0, 4, (2, 3, 6, 7))
    values = (3, 1)
    losses = soft_dice(*(one_hot(jnp.asarray(labels), values) for labels in (fixed, warped)))
    np.testing.assert_allclose(losses, 1 - label_dice(fixed, warped, values).mean(-1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_pooled_dice_is_that_of_all_labels_together(shape):
    fixed, warped = segmentations(shape)
    found = jax.jit(pooled_dice)(jnp.asarray(fixed), jnp.asarray(warped))
    expected = [
        1 - 2 * np.sum(f * w) / (f.sum() + w.sum()) if f.any() else 0.0
        for f, w in zip(fixed.astype(np.float64), warped.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_voxels_of_small_labels_count_as_those_of_large_ones():
    """Half-filled labels of 2 and of 40 voxels: one derivative for all voxels, and one 20 times as large."""
    fixed = np.zeros((1, 6, 7, 2), np.float32)
    fixed[0, 0, :2, 0] = 1
    fixed[0, ..., 1] = 1 - fixed[0, ..., 0]
    losses = pooled_dice, soft_dice
    pooled, mean = (jax.grad(lambda w, loss=loss: loss(fixed, w).sum())(0.5 * fixed) for loss in losses)
    np.testing.assert_allclose(pooled[0, 0, 0, 0], pooled[0, 5, 5, 1], rtol=1e-5)
    np.testing.assert_allclose(mean[0, 0, 0, 0], 20 * mean[0, 5, 5, 1], rtol=1e-5)


def test_lacking_labels_by_hand():
    whole, half, empty = (jnp.full((1, 2, 2), value) for value in (1.0, 0.5, 0.0))

    def loss(fixed, warped):
        return float(soft_dice(jnp.stack(fixed, axis=-1), jnp.stack(warped, axis=-1))[0])

    assert loss([whole, whole], [whole, whole]) == 0
    assert loss([whole, whole], [whole, empty]) == 0.5  # one side lacks it: scores 0
    assert loss([whole, empty], [whole, empty]) == 0  # both sides lack it: left out
    assert loss([whole, empty], [empty, empty]) == 1
    assert loss([empty, empty], [empty, empty]) == 0
    np.testing.assert_allclose(loss([whole], [half]), 1 - 2 * 0.5 / 1.5, rtol=1e-6)
    np.testing.assert_allclose(loss([half], [half]), 0.5, rtol=1e-6)


@pytest.mark.parametrize("argument", [0, 1])
def test_gradients_agree_with_differences_and_are_finite_without_labels(argument):
    with jax.enable_x64(True):
        pair = [jnp.asarray(side, jnp.float64) for side in segmentations()]
        # Labels that are not there stay away, because with them the mean's labels change.
        present = sum(side.sum((1, 2), keepdims=True) for side in pair) > 0
        direction = jnp.asarray(np.random.default_rng(1).standard_normal(pair[0].shape)) * present
        weights = jnp.asarray([1.0, -0.5, 0.7, 0.3, 2.0])

        @jax.jit
        def along(step):
            moved = list(pair)
            moved[argument] = moved[argument] + step * direction
            return jnp.sum(weights * soft_dice(*moved))

        slope, curvature = jax.jit(lambda at: jax.jvp(jax.grad(along), (at,), (1.0,)))(0.0)
        np.testing.assert_allclose(slope, (along(1e-6) - along(-1e-6)) / 2e-6, rtol=1e-5)
        assert np.isfinite(curvature)
    gradient = jax.jit(jax.grad(lambda *pair: soft_dice(*pair).sum(), argument))(*map(jnp.asarray, segmentations()))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[:3]).sum((1, 2, 3)).min() > 0
    np.testing.assert_array_equal(gradient[3, ..., 2], 0)
    np.testing.assert_array_equal(gradient[4], 0)


def test_pairs_do_not_see_each_other():
    fixed, warped = map(jnp.asarray, segmentations())
    together = soft_dice(fixed, warped)
    np.testing.assert_allclose(soft_dice(fixed.at[0].set(jnp.nan), warped)[1:], together[1:], rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(soft_dice)(fixed[:, None], warped[:, None])[:, 0], together, rtol=1e-6)


def test_bfloat16_is_summed_in_float32():
    fixed, warped = (jnp.asarray(side, jnp.bfloat16) for side in segmentations((40, 40)))
    exact = soft_dice(fixed.astype(jnp.float32), warped.astype(jnp.float32))
    np.testing.assert_allclose(soft_dice(fixed, warped), exact, rtol=1e-6)


def test_a_square_is_pulled_back_onto_its_place():
    """The gradient through the warp of a channel for each label points where the moving square has to go."""
    labels = np.zeros((1, 12, 12), np.int32)
    labels[0, 4:8, 4:8] = 7
    fixed, moving = (one_hot(jnp.asarray(array), (7,)) for array in (labels, np.roll(labels, 1, axis=1)))

    def loss(shift):
        displacement = jnp.broadcast_to(shift, (1, 12, 12, 2))
        return soft_dice(fixed, warp(moving, displacement))[0]

    value_and_slope = jax.jit(jax.value_and_grad(loss))
    assert float(value_and_slope(jnp.asarray([1.0, 0.0]).reshape(1, 1, 1, 2))[0]) == 0
    value, slope = value_and_slope(jnp.asarray([0.25, 0.0]).reshape(1, 1, 1, 2))  # a quarter of the way
    assert 0 < float(value) < 0.25
    assert float(slope[0, 0, 0, 0]) < -0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_one_hot(dtype, shape):
    labels = np.random.default_rng(0).integers(0, 6, (2, *shape)).astype(dtype)
    values = (5, 2, 300)  # the last of which the labels cannot even hold, or do not
    found = one_hot(jnp.asarray(labels), values)
    assert found.shape == (2, *shape, 3)
    assert found.dtype == jnp.float32
    for channel, value in enumerate(values):
        np.testing.assert_array_equal(found[..., channel], labels.astype(int) == value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_dice(jnp.zeros((1, 4, 5, 2)), jnp.zeros((1, 4, 5, 3))), "soft_dice: fixed has shape"),
        (lambda: soft_dice(jnp.zeros((4, 5)), jnp.zeros((4, 5))), "soft_dice: fixed has shape"),
        (lambda: pooled_dice(jnp.zeros((1, 4, 5, 2)), jnp.zeros((1, 4, 5, 3))), "pooled_dice: fixed has shape"),
        (lambda: one_hot(jnp.zeros((1, 4, 5)), (1,)), "one_hot: labels are float32"),
        (lambda: one_hot(jnp.zeros((1, 4, 5), int), ()), "one_hot: values is empty"),
    ],
)
def test_mistakes(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_segmentation_agrees_with_its_reference(shape):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3, *shape, 3)), rng.integers(0, 4, (3, *shape))
    values = (3, 1)  # 2 counts as background
    losses = jax.jit(segmentation, static_argnums=2)(jnp.asarray(logits, jnp.float32), jnp.asarray(labels), values)
    probabilities = softmax(logits, axis=-1)
    known = np.stack([np.isin(labels, (0, 2)), labels == 3, labels == 1], axis=-1)
    entropy = -np.log(probabilities[known]).reshape(3, -1).mean(1)
    np.testing.assert_allclose(losses, entropy + reference(known[..., 1:], probabilities[..., 1:]), rtol=1e-5)


def test_segmentation_of_certain_ones():
    labels = jnp.asarray([[[0, 1, 1], [2, 0, 2]]])
    certain = 200.0 * jnp.concatenate([labels[..., None] == 0, one_hot(labels, (1, 2))], axis=-1)
    np.testing.assert_allclose(segmentation(certain, labels, (1, 2)), 0, atol=1e-6)
    gradient = jax.grad(lambda logits: jnp.sum(segmentation(logits, labels, (1, 2))))(-certain)
    assert np.all(np.isfinite(gradient))
    with pytest.raises(ValueError, match="3 classes for 1 labels and background"):
        segmentation(certain, labels, (1,))


def test_classes_count_by_their_overlap_beside_the_images():
    pair = segmentations()
    fixed, warped = map(jnp.asarray, pair)
    displacement = jnp.asarray(np.random.default_rng(1).random((5, 6, 7, 2)), jnp.float32)
    objective = make_objective("mse", diffusion=0.5)
    plain, _ = objective(fixed[..., :1], warped[..., :1], displacement)
    loss, terms = with_overlap(objective, 3.0, 2)(fixed, warped, displacement)
    overlap = reference(*(side[..., 1:].reshape(len(side), -1, 1) for side in pair))
    np.testing.assert_allclose(loss, plain + 3 * overlap, rtol=1e-5)
    np.testing.assert_allclose(terms["pooled_dice"], overlap, rtol=1e-5)
    assert with_overlap(objective, 3.0, 2) is with_overlap(objective, 3.0, 2)  # compiled once
