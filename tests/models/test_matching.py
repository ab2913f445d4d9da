"""Matching attention: window products, softmax and mean offset, the vote, equivariance, registration by the model."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from jax.test_util import check_grads
from model_helpers import compiled, perturbed
from scipy import ndimage

from air_jax.models import MatchingAiR
from air_jax.models.layers.edge_tensor import edge_tensor
from air_jax.models.layers.matching import attention_matrix, match_windows, neighbours, window_offsets
from air_jax.models.layers.matching_step import vote
from air_jax.models.layers.window_scores import window_scores
from air_jax.training.figures import attention_of_run
from air_jax.transforms import bspline, corner_jacobian_determinant

match = jax.jit(match_windows, static_argnames="radius")


def features(shape, seed=0):
    """Fixed and moving features `[B, *G, H, D]`, a temperature `[H]`."""
    rng = np.random.default_rng(seed)
    fixed, moving = rng.standard_normal((2, *shape)).astype(np.float32)
    return fixed, moving, rng.uniform(0.3, 1, shape[-2]).astype(np.float32)


def reference(fixed, moving, temperature, bias, radius):
    """Mean offset and weights, token by token in float64; moving tokens outside are those of the border."""
    batch, *grid, heads, _ = fixed.shape
    offsets = list(itertools.product(range(-radius, radius + 1), repeat=len(grid)))
    weights = np.zeros((batch, *grid, heads, len(offsets)))
    for item, head, *place in np.ndindex(batch, heads, *grid):
        for index, offset in enumerate(offsets):
            other = np.clip(np.add(place, offset), 0, np.subtract(grid, 1))
            difference = fixed[(item, *place, head)].astype(float) - moving[(item, *other, head)]
            logit = bias[head, index] - temperature[head] * np.sum(difference**2)
            weights[(item, *place, head, index)] = np.exp(logit)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ np.array(offsets, float), weights


@pytest.mark.parametrize(("grid", "radius"), [((4, 5), 2), ((3, 2, 4), 1)])
def test_match_is_a_softmax_over_the_window_and_its_mean_offset(grid, radius):
    fixed, moving, temperature = features((2, *grid, 2, 3))
    bias = np.random.default_rng(1).standard_normal((2, (2 * radius + 1) ** len(grid))).astype(np.float32)
    found = match(fixed, moving, temperature, bias, radius=radius)
    offset, weights = reference(fixed, moving, temperature, bias, radius)
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)
    np.testing.assert_allclose(found.offset, offset, atol=1e-4)
    np.testing.assert_allclose(found.entropy, -(weights * np.log(weights)).sum(axis=-1), atol=1e-4)


def test_a_mean_offset_computed_by_hand():
    """Squared distances ln 2, 0, ln 4 give weights 2/7, 4/7, 1/7, and the mean offset -1 * 2/7 + 1 * 1/7."""
    moving = np.sqrt(np.log([2.0, 1.0, 4.0])).astype(np.float32).reshape(1, 1, 3, 1, 1)
    bias = np.full((1, 3, 3), -np.inf, np.float32)
    bias[:, 1] = 0  # only the middle row of the window
    found = match(np.zeros_like(moving), moving, np.ones(1, np.float32), bias.reshape(1, 9), radius=1)
    np.testing.assert_allclose(found.offset[0, 0, 1, 0], [0, -1 / 7], atol=1e-6)
    np.testing.assert_allclose(found.weights[0, 0, 1, 0, 3:6], np.array([2, 4, 1]) / 7, atol=1e-6)


@pytest.mark.parametrize("shift", [(2, -1), (0, 2)])
def test_mean_offsets_follow_a_translation_by_whole_tokens(shift):
    """Without a bias, wherever the window contains the match before and after the translation."""
    fixed = np.zeros((1, 12, 12, 2, 4), np.float32)
    fixed[:, 4:8, 4:8] = 3 * features((1, 4, 4, 2, 4))[0]
    temperature, bias = np.full(2, 8, np.float32), np.zeros((2, 25), np.float32)
    before, after = (
        match(fixed, np.roll(fixed, by, axis=(1, 2)), temperature, bias, radius=2).offset for by in ((0, 0), shift)
    )
    inside = (0, slice(4, 8), slice(4, 8))
    np.testing.assert_allclose(after[inside] - before[inside], np.broadcast_to(shift, (4, 4, 2, 2)), atol=1e-3)


@pytest.mark.slow
def test_window_products_have_derivatives_of_second_order():
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((2, 2, 3, 2, 7)).astype(np.float32)
    shifts = (-3, -1, 0, 2)
    found = window_scores(*arrays, shifts)
    padded = np.pad(arrays[1], [(0, 0)] * 3 + [(3, 3)])
    expected = [np.sum(arrays[0] * padded[..., 3 + shift : 10 + shift], axis=1) for shift in shifts]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)
    function = jax.jit(lambda queries, keys: window_scores(queries, keys, shifts))
    with jax.enable_x64(True):
        check_grads(function, arrays.astype(np.float64), order=2, modes=("fwd", "rev"))
    both = jax.vmap(function, in_axes=(0, None))(np.stack([arrays[0], arrays[1]]), arrays[1])
    np.testing.assert_allclose(both[0], found, atol=1e-5)


@pytest.mark.slow
def test_the_gradient_of_a_match_by_finite_differences():
    fixed, moving, temperature = features((1, 3, 4, 2, 2))
    bias = np.random.default_rng(1).standard_normal((2, 9)).astype(np.float32)

    def outputs(*arguments):
        found = match_windows(*arguments, radius=1)
        return found.offset, found.entropy, found.weights

    check_grads(jax.jit(outputs), (fixed, moving, temperature, bias), order=1, modes=("rev",), atol=1e-2, rtol=1e-2)


def test_neighbours_are_those_along_each_axis():
    tokens = np.random.default_rng(0).standard_normal((1, 3, 4, 2)).astype(np.float32)
    padded = np.pad(tokens, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
    inner = slice(1, -1)
    parts = [padded[:, inner, inner], padded[:, :-2, inner], padded[:, 2:, inner], padded[:, inner, :-2]]
    np.testing.assert_array_equal(neighbours(jnp.asarray(tokens)), np.concatenate([*parts, padded[:, inner, 2:]], -1))


def test_a_vote_is_the_mean_weighted_by_confidence_and_bounded():
    rng = np.random.default_rng(0)
    offset, confidence = rng.uniform(-2, 2, (1, 5, 6, 2, 2)), rng.uniform(0.01, 1, (1, 5, 6, 2))
    found = vote(jnp.asarray(offset, jnp.float32), jnp.asarray(confidence, jnp.float32), 0.0)
    mean = (confidence[..., None] * offset).sum(axis=-2) / (confidence.sum(axis=-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(found, 0.48 * np.tanh(mean / 0.48), atol=1e-5)
    wide = vote(jnp.asarray(100 * offset, jnp.float32), jnp.asarray(confidence, jnp.float32), 0.0)
    assert float(corner_jacobian_determinant(4 * bspline(wide, (4, 4), (20, 24))).min()) > 0
    smoothed = vote(jnp.asarray(offset, jnp.float32), jnp.ones((1, 5, 6, 2)), 1.0)
    expected = ndimage.gaussian_filter(offset.mean(axis=-2), (0, 1, 1, 0), mode="nearest", truncate=3) / (1 + 5e-4)
    np.testing.assert_allclose(smoothed, 0.48 * np.tanh(expected / 0.48), atol=1e-4)


def test_the_matrix_of_attention_holds_each_window():
    weights = np.random.default_rng(0).dirichlet(np.ones(9), (3, 4, 2))
    matrix = attention_matrix(weights, 1)
    np.testing.assert_allclose(matrix.sum(axis=-1), 1)
    inner = matrix[1].reshape(3, 4, 3, 4)[1, 2]
    np.testing.assert_array_equal(inner[:, 1:], weights[1, 2, 1].reshape(3, 3))
    corner = weights[0, 0, 0].reshape(3, 3)
    np.testing.assert_allclose(matrix[0, 0].reshape(3, 4)[1, 1], corner[2, 2])
    np.testing.assert_allclose(matrix[0, 0, 0], corner[:2, :2].sum())
    assert window_offsets(1, 2).tolist()[3] == [0, -1]


# ---- The model -------------------------------------------------------------------------------------------------------

MODEL = MatchingAiR(
    downsampling=(2, 1), stride=(2, 2), patch_size=(6, 2), num_steps=(4, 1), radius=(2, 1), width=8, feed_forward=8
)
PERIOD = 4  # voxels of a patch of the first level


@functools.cache
def blobs(centre, shape=(64, 56)):
    """A textured disc on an empty background `[1, *S, 1]`, and where it is."""
    rows, columns = np.indices(shape) - np.array(centre).reshape(2, 1, 1)
    texture = ndimage.gaussian_filter(np.random.default_rng(0).random((24, 24)), 1.5)
    texture = (texture - texture.min()) / np.ptp(texture)
    inside = np.hypot(rows, columns) < 9
    values = texture[np.clip(rows + 12, 0, 23), np.clip(columns + 12, 0, 23)]
    return (inside * (0.3 + 0.7 * values)).astype(np.float32)[None, ..., None], inside


@functools.cache
def parameters():
    image = np.zeros((1, 64, 56, 1), np.float32)
    return jax.jit(MODEL.init)(jax.random.key(0), image, image)


@pytest.mark.slow
def test_the_untrained_model_finds_a_translation_by_matching():
    fixed, inside = blobs((30, 28))
    moving, _ = blobs((30 + PERIOD, 28 - PERIOD))
    displacement, _ = compiled(MODEL)(parameters(), fixed, moving)
    np.testing.assert_allclose(np.asarray(displacement)[0][inside].mean(axis=0), [PERIOD, -PERIOD], atol=0.8)
    assert float(corner_jacobian_determinant(displacement).min()) > 0


@pytest.mark.slow
def test_displacements_move_with_both_images():
    """With any parameters: the model knows no positions."""
    variables = perturbed(parameters(), 0.1)
    (one, _), (other, _) = (
        (compiled(MODEL)(variables, blobs(place)[0], blobs((place[0] + 2, place[1] + 1))[0]))
        for place in ((28, 26), (28 + PERIOD, 26 + PERIOD))
    )
    assert np.abs(one).max() > 0.5
    rolled = np.roll(one, (PERIOD, PERIOD), axis=(1, 2))
    inside = blobs((28 + PERIOD, 26 + PERIOD))[1]  # votes of patches at the border hardly come as near
    np.testing.assert_allclose(other[0][inside], rolled[0][inside], atol=2e-3)


@pytest.mark.slow
def test_attention_zeroed_sees_no_image():
    """The control of the experiments: at temperature 0 only the bias remains, and nothing moves."""
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.full_like(leaf, -jnp.inf) if "log_temperature" in str(path) else leaf, parameters()
    )
    displacement, out = compiled(MODEL)(variables, blobs((30, 28))[0], blobs((33, 28))[0])
    np.testing.assert_allclose(displacement, 0, atol=1e-4)
    np.testing.assert_allclose(np.ptp(out["attention"][0], axis=(1, 2)), 0, atol=1e-5)


@pytest.mark.slow
def test_what_can_be_looked_at():
    fixed, moving = blobs((30, 28))[0], blobs((33, 28))[0]
    displacement, out = compiled(MODEL)(parameters(), fixed, moving)
    assert [weights.shape for weights in out["attention"]] == [(1, 16, 14, 2, 25), (1, 32, 28, 2, 9)]
    assert [one.shape for one in out["confidence"]] == [(1, 16, 14, 2), (1, 32, 28, 2)]
    assert [one.shape for one in out["read"]] == [(1, 32, 28, 1), (1, 64, 56, 1)]
    for weights in out["attention"]:
        np.testing.assert_allclose(np.sum(weights, axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(out["displacements"][-1], displacement)


def test_the_figure_shows_the_windows_of_the_first_level():
    rng = np.random.default_rng(0)
    fixed, moving = rng.random((2, 1, 64, 56, 1)).astype(np.float32)
    window = rng.dirichlet(np.ones(25), (1, 16, 14, 2)).astype(np.float32)
    out = {"attention": [window, None], "read": [rng.random((1, 32, 28, 1)), None]}
    figure = attention_of_run(MODEL, out, fixed, moving)
    first, *heads = figure.axes
    column, row = (int(number + 0.5) // 2 for number in first.patches[0].get_xy())
    expected = attention_matrix(window[0], 2)[:, row * 14 + column].reshape(2, 16, 14)
    for axis, weights in zip(heads, expected, strict=True):
        np.testing.assert_array_equal(axis.images[1].get_array(), weights)


@pytest.mark.parametrize("shape", [(9, 8), pytest.param((6, 7, 5), marks=THOROUGH)])
def test_edge_tensor_is_that_of_the_negative_and_of_a_factor(shape):
    image = np.random.default_rng(0).random((2, *shape, 2), dtype=np.float32)
    found, negative, fainter = np.asarray(jax.jit(jax.vmap(edge_tensor))(np.stack([image, 1 - image, 0.5 * image])))
    np.testing.assert_allclose(negative, found, atol=1e-5)
    np.testing.assert_allclose(fainter, found, rtol=0.1, atol=0.02)
    num_axes = len(shape)
    kernel = [-0.5, 0.0, 0.5]
    slopes = [
        ndimage.correlate1d(image.astype(float), kernel, axis=axis, mode="nearest") for axis in range(1, 1 + num_axes)
    ]
    squared = sum((slope**2).sum(-1) for slope in slopes)
    around = ndimage.gaussian_filter(squared, (0, *(2.0,) * num_axes), mode="nearest", truncate=3.0)
    products = [(slopes[i] * slopes[j]).sum(-1) for i in range(num_axes) for j in range(i, num_axes)]
    np.testing.assert_allclose(
        found, 0.25 * np.stack(products, -1) / (around + 0.05**2)[..., None], rtol=2e-3, atol=1e-4
    )
