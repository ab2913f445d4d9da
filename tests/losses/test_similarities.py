"""Similarities against brute-force references in float64, and the changes that each measures or ignores."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from scipy.interpolate import BSpline

from air_jax.errors import OptionError
from air_jax.losses import SIMILARITIES, lncc_loss, mi_loss, mind_ssc_loss, squared_lncc_loss
from air_jax.losses.mind import _descriptors

VARIANCE_FLOOR = (1 / 255) ** 2


def mean_over_channels(reference):
    """Turns a reference for two images `[*S]` into one for `[B, *S, C]`."""

    def of_batch(fixed, warped, **options):
        pairs = zip(fixed, warped, strict=True)
        return np.array(
            [np.mean([reference(f[..., c], w[..., c], **options) for c in range(f.shape[-1])]) for f, w in pairs]
        )

    return of_batch


def correlation(a, b):
    covariance = np.mean((a - a.mean()) * (b - b.mean()))
    return covariance / np.sqrt(max(a.var(), VARIANCE_FLOOR) * max(b.var(), VARIANCE_FLOOR))


def local_correlations(fixed, warped, window):
    radius = window // 2
    for voxel in np.ndindex(fixed.shape):
        box = tuple(slice(max(index - radius, 0), index + radius + 1) for index in voxel)
        yield correlation(fixed[box], warped[box])


@mean_over_channels
def reference_mse(fixed, warped):
    return ((warped - fixed) ** 2).mean()


@mean_over_channels
def reference_ncc(fixed, warped):
    return 1 - correlation(fixed, warped)


@mean_over_channels
def reference_lncc(fixed, warped, window=9):
    return 1 - np.mean(list(local_correlations(fixed, warped, window)))


@mean_over_channels
def reference_squared_lncc(fixed, warped, window=9):
    return 1 - np.mean(np.square(list(local_correlations(fixed, warped, window))))


def entropy(shares):
    return -sum(share * np.log(share) for share in shares.ravel() if share > 0)


def reference_entropies(fixed, warped, bins):
    spline = BSpline.basis_element([-2, -1, 0, 1, 2], extrapolate=False)
    joint = np.zeros((bins, bins))
    for f, w in zip(fixed.ravel(), warped.ravel(), strict=True):
        weights = [np.nan_to_num(spline(2 + (bins - 5) * value - np.arange(bins))) for value in (f, w)]
        joint += np.outer(*weights) / fixed.size
    return entropy(joint.sum(0)), entropy(joint.sum(1)), entropy(joint)


@mean_over_channels
def reference_mi(fixed, warped, bins=32):
    one, other, joint = reference_entropies(fixed, warped, bins)
    return joint - one - other


@mean_over_channels
def reference_nmi(fixed, warped, bins=32):
    one, other, joint = reference_entropies(fixed, warped, bins)
    return 1 - (one + other) / joint


def reference_descriptors(image, radius, dilation):
    num_axes = image.ndim
    padded = np.pad(image, dilation, mode="edge")

    def moved(step):
        return padded[tuple(slice(dilation + by, dilation + by + n) for by, n in zip(step, image.shape, strict=True))]

    steps = [dilation * sign * np.eye(num_axes, dtype=int)[axis] for axis in range(num_axes) for sign in (1, -1)]
    pairs = [(a, b) for a, b in itertools.combinations(steps, 2) if np.sum((a - b) ** 2) == 2 * dilation**2]
    assert len(pairs) == {2: 4, 3: 12}[num_axes]
    distances = np.zeros((len(pairs), *image.shape))
    for pair, (a, b) in enumerate(pairs):
        squares = (moved(a) - moved(b)) ** 2
        for voxel in np.ndindex(image.shape):
            distances[(pair, *voxel)] = squares[tuple(slice(max(i - radius, 0), i + radius + 1) for i in voxel)].mean()
    distances -= distances.min(0)
    variance = distances.mean(0)
    variance = np.maximum(np.clip(variance, 0.001 * variance.mean(), 1000 * variance.mean()), 1e-6)
    return np.exp(-distances / variance)


@mean_over_channels
def reference_mind_ssc(fixed, warped, radius=2, dilation=2):
    descriptors = [reference_descriptors(image, radius, dilation) for image in (fixed, warped)]
    return np.mean((descriptors[0] - descriptors[1]) ** 2)


# An entry of the dict without one fails the test below.
REFERENCES = {
    "mse": reference_mse,
    "ncc": reference_ncc,
    "lncc": reference_lncc,
    "squared_lncc": reference_squared_lncc,
    "mi": reference_mi,
    "nmi": reference_nmi,
    "mind_ssc": reference_mind_ssc,
}
CASES = [
    *((name, function, {}) for name, function in SIMILARITIES.items()),
    ("lncc", lncc_loss, {"window": 3}),
    ("squared_lncc", squared_lncc_loss, {"window": 5}),
    ("mi", mi_loss, {"bins": 8}),
    ("mind_ssc", mind_ssc_loss, {"radius": 1, "dilation": 1}),
    ("mind_ssc", mind_ssc_loss, {"radius": 2, "dilation": 1}),
    ("mind_ssc", mind_ssc_loss, {"radius": 0, "dilation": 3}),
]
# Jitted functions are shared by all tests, and so are the programs of the same shapes.
JITTED = {name: jax.jit(function) for name, function in SIMILARITIES.items()}
CONTRAST_BLIND = ["ncc", "lncc", "squared_lncc", "mind_ssc"]


def images(shape=(6, 7), batch=2, channels=2):
    """Two images that differ by noise."""
    rng = np.random.default_rng(0)
    fixed, noise = rng.random((2, batch, *shape, channels)).astype(np.float32)
    return fixed, 0.7 * fixed + 0.3 * noise


def blob(shape=(32, 32), centre=16.0):
    """Smooth structure with contrast in every window, `[1, *S, 1]` in [0.1, 0.9]."""
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    distance = np.sqrt(np.sum((grid - centre) ** 2, axis=-1))
    return (0.5 + 0.4 * np.cos(distance / 3))[None, ..., None].astype(np.float32)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_every_entry_has_a_reference(name):
    assert name in REFERENCES, f"give {name!r} an independent reference in this file"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "function", "options", "shape", "channels"),
    [
        *((*case, (6, 7), 2) for case in CASES),
        *(pytest.param(*case, (4, 5, 6), 1, marks=THOROUGH if case[2] else ()) for case in CASES),
    ],
)
def test_similarities_agree_with_their_references(name, function, options, shape, channels):
    fixed, warped = images(shape, channels=channels)
    values = (jax.jit(partial(function, **options)) if options else JITTED[name])(fixed, warped)
    assert values.shape == (2,)
    expected = REFERENCES[name](fixed.astype(np.float64), warped.astype(np.float64), **options)
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in SIMILARITIES if name != "mse"])
def test_bfloat16_is_computed_in_float32(name):
    fixed, warped = (image.astype(jnp.bfloat16) for image in images())
    exact = JITTED[name](fixed.astype(np.float32), warped.astype(np.float32))
    np.testing.assert_allclose(JITTED[name](fixed, warped), exact, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMILARITIES)
def test_vmap_over_stacks_of_pairs(name):
    pairs = [image.reshape(2, 2, 6, 7, 2) for image in images(batch=4)]
    stacked = jax.jit(jax.vmap(SIMILARITIES[name]))(*pairs)
    expected = [JITTED[name](*pair) for pair in zip(*pairs, strict=True)]
    np.testing.assert_allclose(stacked, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMILARITIES)
def test_gradients_agree_with_differences(name):
    with jax.enable_x64(True):
        # Some voxels are at the ends of the range, where the derivative must not be 0.
        pair = np.stack(images(channels=1)).astype(np.float64)
        pair[:, :, 0], pair[:, :, 1] = 0, 1
        directions = np.random.default_rng(2).standard_normal(pair.shape)

        @jax.jit
        def derivatives(steps):
            def along(steps):
                return SIMILARITIES[name](*(pair + steps.reshape(2, 1, 1, 1, 1) * directions)).sum()

            # Forward over reverse, as second-order optimisers use it, gives both derivatives.
            (value, slopes), (_, curvature) = jax.jvp(jax.value_and_grad(along), (steps,), (jnp.ones(2),))
            return value, slopes, curvature

        _, slopes, curvature = derivatives(np.zeros(2))
        for slope, step in zip(slopes, 1e-6 * np.eye(2), strict=True):
            difference = (derivatives(step)[0] - derivatives(-step)[0]) / 2e-6
            np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-8)
        assert np.isfinite(curvature).all()


@pytest.mark.parametrize("name", SIMILARITIES)
def test_gradients_are_finite_on_flat_images(name):
    gradient = jax.jit(jax.grad(lambda warped, fixed: SIMILARITIES[name](fixed, warped).sum()))
    random = np.random.default_rng(0).random((1, 6, 13, 1), np.float32)
    for value in (0.0, 0.3, 1.0):
        constant = np.full((1, 12, 13, 1), value, np.float32)
        half = np.concatenate([random, constant[:, 6:]], axis=1)
        for fixed, warped in itertools.product((constant, half), repeat=2):
            assert np.isfinite(np.asarray(gradient(warped, fixed))).all()
        np.testing.assert_allclose(gradient(constant, constant), 0, atol=1e-5)


@pytest.mark.parametrize("name", ["ncc", "lncc", "squared_lncc"])
def test_noise_on_flat_images_does_not_correlate(name):
    noise = (1e-6 * np.random.default_rng(0).standard_normal((1, 32, 32, 1))).astype(np.float32)
    np.testing.assert_allclose(JITTED[name](0.5 + noise, 0.5 + noise), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["ncc", "lncc", "squared_lncc"])
def test_correlations_of_an_image_with_itself_and_its_negative(name):
    image = blob()
    np.testing.assert_allclose(JITTED[name](image, image), 0, atol=1e-5)
    inverted = 0 if name == "squared_lncc" else 2
    np.testing.assert_allclose(JITTED[name](image, 1 - image), inverted, atol=1e-5)


@pytest.mark.parametrize("name", CONTRAST_BLIND)
def test_brightness_and_contrast_do_not_matter(name):
    fixed, warped = images()
    value = JITTED[name](fixed, warped)
    np.testing.assert_allclose(JITTED[name](fixed, 0.2 + 0.5 * warped), value, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in SIMILARITIES if name != "mse"])
@pytest.mark.parametrize("shape", [(32, 32), pytest.param((20, 20, 20), marks=THOROUGH)])
def test_shifts_increase_the_loss(name, shape):
    """Also with inverted contrast, for the similarities that allow it."""
    fixed, shifted = blob(shape, 10.0), blob(shape, 11.0)
    similarity = JITTED[name]
    assert float(similarity(fixed, shifted)[0]) > float(similarity(fixed, fixed)[0]) + 0.01
    if name in ("squared_lncc", "mi", "nmi", "mind_ssc"):
        assert float(similarity(fixed, 1 - shifted)[0]) > float(similarity(fixed, 1 - fixed)[0]) + 0.01


def test_mutual_information_of_separate_intensities_is_their_histograms():
    """At centres of bins far apart, the joint entropy has that of the window twice, both others have it once."""
    levels = np.array([0, 12, 27]) / 27
    rng = np.random.default_rng(0)
    fixed = rng.integers(3, size=400)
    warped = np.where(rng.random(400) < 0.7, 2 - fixed, rng.integers(3, size=400))
    counts = np.zeros((3, 3))
    np.add.at(counts, (fixed, warped), 1)
    counts /= counts.sum()
    expected = entropy(counts) - entropy(counts.sum(0)) - entropy(counts.sum(1))
    pair = [levels[index].reshape(1, 20, 20, 1).astype(np.float32) for index in (fixed, warped)]
    np.testing.assert_allclose(JITTED["mi"](*pair), expected, rtol=1e-5)


def test_mutual_information_of_unrelated_images_is_small_and_never_negative():
    """With several chunks of voxels, the last one not full."""
    fixed, warped = np.random.default_rng(0).random((2, 1, 200, 205, 1), np.float32)
    assert -0.02 < float(JITTED["mi"](fixed, warped)[0]) <= 0
    assert float(JITTED["mi"](fixed, fixed)[0]) < -2


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (partial(lncc_loss, window=4), "window=4: must be odd"),
        (partial(squared_lncc_loss, window=-1), "window=-1: must be odd"),
        (partial(mi_loss, bins=5), "bins=5: must be at least 6"),
        (partial(mind_ssc_loss, radius=-1), "radius=-1: must not be negative"),
        (partial(mind_ssc_loss, dilation=0), "dilation=0: must be at least 1"),
    ],
)
def test_wrong_options_are_refused(similarity, message):
    with pytest.raises(OptionError, match=message):
        similarity(*map(jnp.asarray, images()))


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(
    "shapes",
    [((2, 6, 7, 1), (2, 6, 7, 3)), ((2, 6, 7, 1), (1, 6, 7, 1)), ((2, 6, 1, 1), (2, 6, 7, 1)), ((6, 7), (6, 7))],
)
def test_other_shapes_are_refused_and_not_broadcast(name, shapes):
    with pytest.raises(ValueError, match=f"^{name}_loss: fixed has shape") as error:
        SIMILARITIES[name](*map(np.zeros, shapes))
    assert all(str(shape) in str(error.value) for shape in shapes)
    assert "\n" not in str(error.value)


def test_patches_of_mind_ssc_at_the_border_by_hand():
    """The image is a ramp along the rows, so two neighbours at a right angle differ by 1.

    A neighbour beyond the first or last row has the value of the voxel itself, so that it differs by 0.
    """
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32)[None, :, None, None], (1, 6, 5, 1))
    # Squared differences of the pairs up-left, up-right, down-left and down-right.
    expected = np.ones((4, 6, 5))
    expected[:2, 0] = expected[2:, -1] = 0
    # Patches are cut off at the border: their mean is over the voxels inside.
    means = np.stack(
        [
            [[e[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean() for j in range(5)] for i in range(6)]
            for e in expected
        ]
    )
    distances = means - means.min(0)
    variance = distances.mean(0)
    variance = np.maximum(np.clip(variance, 0.001 * variance.mean(), 1000 * variance.mean()), 1e-6)
    found = jax.jit(partial(_descriptors, radius=1, dilation=1))(ramp)[:, 0, :, :, 0]
    np.testing.assert_allclose(found, np.exp(-distances / variance), atol=1e-5)
