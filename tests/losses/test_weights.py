"""Similarities of images in which some voxels do not count, against brute-force references in float64."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from air_jax.errors import OptionError
from air_jax.losses import SIMILARITIES, lncc_loss, make_objective, mind_ssc_loss, pooled_dice_loss
from air_jax.losses.correlation import VARIANCE_FLOOR
from air_jax.losses.windows import box_mean

LOSSES = SIMILARITIES | {"pooled_dice": pooled_dice_loss}


def derivatives_of(loss):
    """The value and both gradients, as a program that several tests share."""
    return jax.jit(jax.value_and_grad(lambda f, w, weights: loss(f, w, weights=weights).sum(), argnums=(0, 1)))


DERIVATIVES = {name: derivatives_of(loss) for name, loss in LOSSES.items()}


def correlation(a, b, weights):
    total = weights.sum()
    a, b = a - (weights * a).sum() / total, b - (weights * b).sum() / total
    covariance, a_variance, b_variance = ((weights * product).sum() / total for product in (a * b, a * a, b * b))
    return covariance / np.sqrt(max(a_variance, VARIANCE_FLOOR) * max(b_variance, VARIANCE_FLOOR))


def local_mean(fixed, warped, weights, window, power):
    radius, total = window // 2, 0.0
    for voxel in np.ndindex(fixed.shape):
        if weights[voxel]:
            box = tuple(slice(max(index - radius, 0), index + radius + 1) for index in voxel)
            total += weights[voxel] * correlation(fixed[box], warped[box], weights[box]) ** power
    return total / weights.sum()


def entropy(shares):
    return -sum(share * np.log(share) for share in shares.ravel() if share > 0)


def reference_entropies(fixed, warped, weights, bins=32):
    spline = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)
    joint = np.zeros((bins, bins))
    for f, w, weight in zip(fixed.ravel(), warped.ravel(), weights.ravel(), strict=True):
        windows = [np.nan_to_num(spline(2 + (bins - 5) * value - np.arange(bins))) for value in (f, w)]
        joint += weight * np.outer(*windows) / weights.sum()
    return entropy(joint.sum(0)), entropy(joint.sum(1)), entropy(joint)


def reference_mi(fixed, warped, weights):
    one, other, joint = reference_entropies(fixed, warped, weights)
    return joint - one - other


def reference_nmi(fixed, warped, weights):
    """One minus the measure of Studholme et al."""
    one, other, joint = reference_entropies(fixed, warped, weights)
    return 1 - (one + other) / joint


def reference_descriptors(image, weights, radius, dilation):
    """Descriptors and the weights `s` of each pair of neighbours, `[pairs, *S]`."""
    num_axes = image.ndim
    padded, padded_weights = (np.pad(array, dilation, mode="edge") for array in (image, weights))
    steps = [dilation * sign * np.eye(num_axes, dtype=int)[axis] for axis in range(num_axes) for sign in (1, -1)]
    pairs = [(a, b) for a, b in itertools.combinations(steps, 2) if a @ b == 0]
    distances, shares = np.zeros((2, len(pairs), *image.shape))

    def moved(array, step):
        return array[tuple(slice(dilation + by, dilation + by + n) for by, n in zip(step, image.shape, strict=True))]

    for pair, (a, b) in enumerate(pairs):
        squares = (moved(padded, a) - moved(padded, b)) ** 2
        weight = moved(padded_weights, a) * moved(padded_weights, b)
        for voxel in np.ndindex(image.shape):
            patch = tuple(slice(max(i - radius, 0), i + radius + 1) for i in voxel)
            both = weight[patch]
            shares[(pair, *voxel)] = both.mean()
            distances[(pair, *voxel)] = (both * squares[patch]).sum() / both.sum() if both.sum() else 0
    least = np.min(np.where(shares > 0, distances, np.inf), axis=0)
    distances = np.where(shares > 0, distances - np.where(np.isfinite(least), least, 0), 0)
    variance = (shares * distances).sum(0) / np.maximum(shares.sum(0), 1e-12)
    counts = weights * shares.sum(0)
    mean = (counts * variance).sum() / counts.sum()
    variance = np.maximum(np.clip(variance, 0.001 * mean, 1000 * mean), 1e-6)
    return np.exp(-distances / variance), shares


def reference_mind_ssc(fixed, warped, weights, radius=2, dilation=2):
    (fixed, shares), (warped, _) = (
        reference_descriptors(image, weights, radius, dilation) for image in (fixed, warped)
    )
    return (weights * shares * (fixed - warped) ** 2).sum() / (weights * shares).sum()


REFERENCES = {
    "mse": lambda f, w, weights: (weights * (f - w) ** 2).sum() / weights.sum(),
    "ncc": lambda f, w, weights: 1 - correlation(f, w, weights),
    "lncc": lambda f, w, weights, window=9: 1 - local_mean(f, w, weights, window, 1),
    "squared_lncc": lambda f, w, weights, window=9: 1 - local_mean(f, w, weights, window, 2),
    "mi": reference_mi,
    "nmi": reference_nmi,
    "mind_ssc": reference_mind_ssc,
}


def pair(shape=(9, 10), batch=2):
    """Two images `[B, *S, 1]` and soft weights `[B, *S]` with a block and single voxels of 0."""
    rng = np.random.default_rng(0)
    fixed, noise = rng.random((2, batch, *shape, 1)).astype(np.float32)
    weights = np.where(rng.random((batch, *shape)) < 0.2, 0, rng.random((batch, *shape))).astype(np.float32)
    weights[:, :3, 4:] = 0
    return fixed, 0.7 * fixed + 0.3 * noise, weights


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in SIMILARITIES), ("lncc", {"window": 3}), ("mind_ssc", {"radius": 1, "dilation": 1})],
)
@pytest.mark.parametrize("shape", [(9, 10), (5, 6, 7)])
def test_weighted_similarities_agree_with_their_references(name, options, shape):
    fixed, warped, weights = pair(shape)
    values = jax.jit(partial(SIMILARITIES[name], **options))(fixed, warped, weights=weights)
    sides = (np.asarray(array, np.float64) for array in (fixed[..., 0], warped[..., 0], weights))
    expected = [REFERENCES[name](*each, **options) for each in zip(*sides, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=5e-5, atol=5e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_voxels_of_weight_zero_have_no_influence(name):
    fixed, warped, weights = pair()
    hidden = (weights == 0)[..., None]
    value, gradients = DERIVATIVES[name](fixed, warped, weights)
    for garbage in (7.0, np.nan):
        images = np.where(hidden, garbage, fixed), np.where(hidden, -garbage, warped)
        other, others = DERIVATIVES[name](*(image.astype(np.float32) for image in images), weights)
        assert other == value
        for gradient, same in zip(gradients, others, strict=True):
            np.testing.assert_array_equal(gradient, same)
            np.testing.assert_array_equal(np.where(hidden, gradient, 0), 0)
            assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_one_change_nothing(name):
    fixed, warped, weights = pair()
    plain, ones = (DERIVATIVES[name](fixed, warped, given) for given in (None, np.ones_like(weights)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), plain, ones)


@pytest.mark.parametrize("name", LOSSES)
def test_without_weights_the_program_is_that_of_two_images(name):
    fixed, warped, _ = pair()
    of_two = jax.make_jaxpr(LOSSES[name])(fixed, warped)
    assert str(jax.make_jaxpr(partial(LOSSES[name], weights=None))(fixed, warped)) == str(of_two)
    assert len(of_two.in_avals) == 2


def unweighted_lncc(fixed, warped, window=9):
    """The formula without weights."""
    fixed, warped = (image - jnp.mean(image, axis=(1, 2), keepdims=True) for image in (fixed, warped))
    means = box_mean(fixed, window), box_mean(warped, window)
    covariance = box_mean(fixed * warped, window) - means[0] * means[1]
    variances = [box_mean(jnp.square(a), window) - jnp.square(b) for a, b in zip((fixed, warped), means, strict=True)]
    scales = [jax.lax.rsqrt(jnp.maximum(variance, VARIANCE_FLOOR)) for variance in variances]
    local = jax.lax.optimization_barrier(covariance * scales[0] * scales[1])
    return 1 - jnp.mean(local, axis=(1, 2, 3))


def unweighted_mse(fixed, warped):
    return jnp.mean(jnp.square(warped - fixed), axis=(1, 2, 3))


@pytest.mark.parametrize(("name", "formula"), [("mse", unweighted_mse), ("lncc", unweighted_lncc)])
def test_without_weights_values_and_gradients_are_bit_equal(name, formula):
    fixed, warped, _ = pair()
    ours, plain = (
        jax.jit(jax.value_and_grad(lambda w, f=function: f(fixed, w).sum()))(warped)
        for function in (SIMILARITIES[name], formula)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_counts(name):
    fixed, warped, weights = pair()
    value, gradients = DERIVATIVES[name](fixed, warped, np.zeros_like(weights))
    assert np.isfinite(value)
    jax.tree.map(lambda gradient: np.testing.assert_array_equal(gradient, 0), gradients)


def test_weights_of_another_shape_are_refused():
    fixed, warped, weights = pair()
    for function in LOSSES.values():
        with pytest.raises(ValueError, match="weights has shape"):
            function(fixed, warped, weights=weights[..., None])


def test_pooled_dice_with_weights():
    fixed, warped, weights = pair()
    weight = weights[..., None].astype(np.float64)
    overlap, total = ((weight * each).sum((1, 2, 3)) for each in (fixed * warped, fixed + warped))
    found = jax.jit(pooled_dice_loss)(fixed, warped, weights=weights)
    np.testing.assert_allclose(found, 1 - 2 * overlap / total, rtol=1e-5)


def test_objective_passes_weights_to_its_similarities():
    fixed, warped, weights = pair()
    displacement = np.zeros((*weights.shape, 2), np.float32)
    objective = make_objective(partial(lncc_loss, window=3), mse=2.0)
    loss, terms = jax.jit(objective)(fixed, warped, displacement, weights=weights)
    similarity = jax.jit(partial(lncc_loss, window=3))(fixed, warped, weights=weights)
    np.testing.assert_allclose(terms["similarity"], similarity, rtol=1e-6)
    mse = REFERENCES["mse"]
    expected = [mse(*each) for each in zip(fixed[..., 0], warped[..., 0], weights, strict=True)]
    np.testing.assert_allclose(loss, similarity + 2 * np.array(expected), rtol=1e-5)
    with pytest.raises(OptionError, match="needs a keyword `weights`"):
        make_objective(lambda f, w: ((f - w) ** 2).mean((1, 2, 3)))(fixed, warped, displacement, weights=weights)


def test_mind_ssc_sees_structure_beside_what_does_not_count():
    fixed, warped, weights = pair((16, 16))
    weights = np.ones_like(weights)
    weights[:, :, :5] = 0
    assert np.all(np.asarray(jax.jit(mind_ssc_loss)(fixed, warped, weights=weights)) > 0.01)
