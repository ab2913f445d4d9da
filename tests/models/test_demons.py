"""UnrolledDemons and GatedDemons, against NumPy and SciPy and against each other."""

import functools

import demons_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from model_helpers import compiled, perturbed, random_variables

from air_jax import warp
from air_jax.models import GatedDemons, Segmenter, UnrolledDemons

SEGMENTER = Segmenter(3, features=(4, 4))
ATTENTION = dict(stride=(4, 4), patch_size=(12, 4), spacing=(4, 2), width=8, num_heads=2, feed_forward=8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "segmenter"),
    [
        ((13, 15), None),
        ((13, 15), SEGMENTER),
        ((7, 9, 8), SEGMENTER),
        pytest.param((7, 9, 8), None, marks=THOROUGH),
    ],
)
def test_unrolled_demons_agree_with_scipy(shape, segmenter):
    """Each option has a value of its own, so that exchanged options change the result."""
    fixed, moving = reference.smooth_images(np.random.default_rng(0), shape)
    options = dict(force_gain=(1.5, 3.0), force_sigma=1.2, total_sigma=0.4, edges=True, min_jacobian=0.6)
    model = UnrolledDemons(downsampling=(1,), num_steps=(3,), **options, expansion=0.3, segmenter=segmenter)
    params = {"segmenter": random_variables(segmenter, fixed)["params"]} if segmenter else {}
    displacement, out = compiled(model)({"params": params}, fixed, moving)
    classes = [np.asarray(image[0]) for image in out["probabilities"]] if segmenter else None
    expected = functools.partial(reference.demons, fixed[0], moving[0], classes, num_steps=3, expand=0.3, **options)
    np.testing.assert_allclose(displacement[0], expected(), atol=1e-3 * np.abs(expected()).max())
    exchanged = expected(force_sigma=options["total_sigma"], total_sigma=options["force_sigma"])
    assert np.abs(exchanged - expected()).max() > 0.1 * np.abs(expected()).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "segmenter"), [((18, 21), None), pytest.param((9, 12, 10), SEGMENTER, marks=THOROUGH)]
)
def test_untrained_gated_demons_are_unrolled_demons_with_half_the_gain(shape, segmenter):
    fixed, moving = reference.smooth_images(np.random.default_rng(0), shape)
    shared = dict(downsampling=(2,), num_steps=(2,), force_sigma=1.2, total_sigma=0.4, edges=True, expansion=0.3)
    levels = {name: value[:1] if isinstance(value, tuple) else value for name, value in ATTENTION.items()}
    gated = GatedDemons(**levels, **shared, max_force_gain=(3.0, 6.0), segmenter=segmenter)
    unrolled = UnrolledDemons(**shared, force_gain=(1.5, 3.0), segmenter=segmenter)
    params = jax.jit(gated.init)(jax.random.key(0), fixed, moving)["params"]
    if segmenter:
        params["segmenter"] = perturbed(params["segmenter"], 0.3)
    displacement, out = compiled(gated)({"params": params}, fixed, moving)
    own = {name: value for name, value in params.items() if name == "segmenter"}
    expected, expected_out = compiled(unrolled)({"params": own}, fixed, moving)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(displacement, expected, atol=1e-5)
    for found, level in zip(out["displacements"], expected_out["displacements"], strict=True):
        np.testing.assert_allclose(found, level, atol=1e-5)
    assert out["read"].shape[-1] == fixed.shape[-1]  # patches are those of the image: neither of edges nor of classes
    assert ("probabilities" in out) == ("probabilities" in expected_out) == (segmenter is not None)


def blobs(shape, shift):
    """A pair of Gaussian blobs `[1, *S, 1]`, the fixed one `shift` voxels further along the first axis."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centre = (np.asarray(shape) - 1) / 2

    def blob(offset):
        distance = places - centre - offset * np.eye(len(shape))[0]
        return np.exp(-0.5 * (distance**2).sum(-1) / 3**2)[None, ..., None].astype(np.float32)

    return blob(shift), blob(0)


@pytest.mark.slow
@pytest.mark.parametrize("edges", [False, pytest.param(True, marks=THOROUGH)])
@pytest.mark.parametrize("shape", [(26, 24), (18, 16, 17)])
def test_unrolled_demons_register_two_blobs(shape, edges):
    fixed, moving = blobs(shape, 3)
    model = UnrolledDemons(downsampling=(2, 1), num_steps=(4, 4), edges=edges)
    displacement, out = compiled(model)({}, fixed, moving)
    assert set(out) == {"displacements"}
    displacement = np.asarray(displacement)
    warped = reference.warped_by(moving[0], displacement[0], "grid-constant")
    assert np.square(warped - fixed[0]).mean() < 0.1 * np.square(moving - fixed).mean()
    # The pull-back displacement points from the fixed blob back to the moving one.
    centre = tuple(size // 2 for size in shape)
    assert displacement[(0, *centre)][0] < -1.5
    assert reference.determinant(displacement[0]).min() > 0


@pytest.mark.slow
def test_gates_are_bounded_by_the_maximal_gain():
    fixed, moving = blobs((18, 16), 2)
    model = GatedDemons(**ATTENTION, num_steps=(1, 1), downsampling=(1, 1), max_force_gain=(3.0, 0.0))
    params = jax.jit(model.init)(jax.random.key(0), fixed, moving)["params"]
    for gate, gain in ((-100.0, 0.0), (100.0, 3.0)):
        for index, features in enumerate((2, 8)):  # features of the B-splines, which precede the gates
            params[f"level_{index}"]["head"]["bias"] = jnp.full(features + 2, gate).at[:features].set(0)
        expected = UnrolledDemons(downsampling=(1, 1), num_steps=(1, 1), force_gain=(gain, 0.0))
        found = compiled(model)({"params": params}, fixed, moving)[0]
        np.testing.assert_allclose(found, compiled(expected)({}, fixed, moving)[0], atol=1e-5)


@pytest.mark.slow
def test_the_derivative_of_one_gated_step_is_exact():
    """That of several steps is not, because gradients do not pass through the inputs of a step."""
    fixed, moving = blobs((18, 16), 3)
    levels = dict(stride=(4,), patch_size=(12,), spacing=(2,), num_steps=(1,), downsampling=(1,))
    model = GatedDemons(**levels, width=8, feed_forward=8)
    params = perturbed(jax.jit(model.init)(jax.random.key(0), fixed, moving)["params"], 0.1)

    direction = perturbed(jax.tree.map(np.zeros_like, params), 0.1, 2)

    @jax.jit
    @jax.value_and_grad
    def loss(length):
        moved = jax.tree.map(lambda p, d: p + length * d, params, direction)
        return jnp.mean(jnp.square(warp(moving, model.apply({"params": moved}, fixed, moving)[0]) - fixed))

    step = 1e-3  # linear sampling has kinks
    slope = (loss(step)[0] - loss(-step)[0]) / (2 * step)
    np.testing.assert_allclose(loss(0.0)[1], slope, rtol=0.02)
