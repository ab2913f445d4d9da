"""Inverse consistency against NumPy and SciPy in float64, for exact inverses, borders and checkerboards."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from air_jax.losses import CONSISTENCIES, gradient_inverse_consistency_loss
from experiments.consistency.derivatives import gradient_inverse_consistency_differences

SHAPES = [(6, 7), (4, 5, 6)]


def grid_of(shape):
    return np.stack(np.meshgrid(*(np.arange(float(size)) for size in shape), indexing="ij"), axis=-1)


def read(field, points):
    """A displacement `[*S, N]` at points `[..., N]`, linearly, with its edge values outside."""
    coordinates = np.moveaxis(points, -1, 0)
    components = np.moveaxis(field, -1, 0)
    return np.stack([map_coordinates(c, coordinates, order=1, mode="nearest") for c in components], axis=-1)


def residual(first, second, points):
    step = read(first, points)
    return step + read(second, points + step)


def of_both_orders(reference):
    """Turns a reference for one order of one pair, `[*S, N]` each, into one for `[B, *S, N]`."""

    def of_batch(forward, backward, **options):
        pairs = zip(forward, backward, strict=True)
        return np.array([(reference(f, b, **options) + reference(b, f, **options)) / 2 for f, b in pairs])

    return of_batch


@of_both_orders
def reference_inverse_consistency(first, second):
    costs = []
    missed = residual(first, second, grid_of(first.shape[:-1]))
    for voxel in np.ndindex(first.shape[:-1]):
        reached = voxel + first[voxel]
        if all(0 <= c <= size - 1 for c, size in zip(reached, first.shape[:-1], strict=True)):
            costs.append(np.sum(missed[voxel] ** 2))
    return np.mean(costs)


@of_both_orders
def reference_gradient_inverse_consistency(first, second, offset=0.5, step=1e-4):
    """By central differences of the interpolated, composed map."""
    points = grid_of([size - 1 for size in first.shape[:-1]]) + offset
    total = 0.0
    for unit in step * np.eye(first.shape[-1]):
        slope = (residual(first, second, points + unit) - residual(first, second, points - unit)) / (2 * step)
        total = total + np.sum(slope**2, axis=-1)
    return np.mean(total)


# An entry of the dict without one fails the test below.
REFERENCES = {
    "inverse_consistency": reference_inverse_consistency,
    "gradient_inverse_consistency": reference_gradient_inverse_consistency,
}


def displacements(shape, batch=2):
    """Two displacements that are roughly inverse and cross the border. No centre of a cell comes close to a side."""
    rng = np.random.default_rng(0)
    translation = rng.integers(-2, 3, (batch, *(1 for _ in shape), len(shape)))
    noise = 0.12 * rng.standard_normal((2, batch, *shape, len(shape)))
    return (translation + noise[0]).astype(np.float32), (noise[1] - translation).astype(np.float32)


def affine_field(shape, matrix, translation=0.0):
    """Displacement of `p -> centre + matrix (p - centre) + translation`, `[2, *S, N]`, the same for two pairs."""
    from_centre = grid_of(shape) - (np.array(shape) - 1) / 2
    field = from_centre @ (np.asarray(matrix).T - np.eye(len(shape))) + translation
    return np.stack([field, field]).astype(np.float32)


@partial(jax.jit, static_argnums=0)
def compute(name, forward, backward, weights):
    """Values, and gradients of their weighted sum. All tests share one program for each entry and shape."""
    values, pull = jax.vjp(CONSISTENCIES[name], forward, backward)
    return values, pull(weights)


def value_and_gradients(name, forward, backward, weights=(1.0, 1.0)):
    values, gradients = compute(name, jnp.asarray(forward), jnp.asarray(backward), jnp.asarray(weights))
    assert values.shape == (2,)
    return values, gradients


def value_of(name, forward, backward):
    return value_and_gradients(name, forward, backward)[0]


@pytest.mark.parametrize("name", CONSISTENCIES)
def test_every_entry_has_a_reference(name):
    assert name in REFERENCES, f"give {name!r} an independent reference in this file"


@pytest.mark.slow
@pytest.mark.parametrize("name", CONSISTENCIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_agree_with_their_references(name, shape):
    """Gradients along a direction of both displacements, against central differences of the reference."""
    pair = displacements(shape)
    rng = np.random.default_rng(1)
    weights = np.array([1.0, -0.5], np.float32)
    directions = rng.standard_normal((2, *pair[0].shape))
    values, gradients = value_and_gradients(name, *pair, weights)
    exact = [field.astype(np.float64) for field in pair]
    expected = REFERENCES[name](*exact)
    assert expected.min() > 0.01
    np.testing.assert_allclose(values, expected, rtol=2e-5)

    for argument in (0, 1):
        step = 1e-5
        moved = [
            [field + sign * step * directions[i] * (i == argument) for i, field in enumerate(exact)] for sign in (1, -1)
        ]
        difference = (REFERENCES[name](*moved[0]) - REFERENCES[name](*moved[1])) / (2 * step)
        slope = np.sum(np.asarray(gradients[argument], np.float64) * directions[argument])
        np.testing.assert_allclose(slope, weights @ difference, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONSISTENCIES)
def test_pairs_are_independent_and_the_order_of_the_maps_does_not_matter(name):
    forward, backward = displacements((6, 7))
    together, gradients = value_and_gradients(name, forward, backward)
    np.testing.assert_allclose(value_of(name, backward, forward), together, rtol=1e-5)
    swapped = value_of(name, forward[::-1], backward[::-1])
    np.testing.assert_allclose(swapped[::-1], together, rtol=1e-6)
    forward[0] = np.nan
    spoiled, spoiled_gradients = value_and_gradients(name, forward, backward)
    np.testing.assert_allclose(spoiled[1], together[1], rtol=1e-6)
    for found, expected in zip(spoiled_gradients, gradients, strict=True):
        np.testing.assert_allclose(found[1], expected[1], atol=1e-6)
    assert not np.any(compute(name, *displacements((6, 7)), jnp.asarray([1.0, 0.0]))[1][0][1])


@pytest.mark.parametrize("name", CONSISTENCIES)
def test_vmap_changes_nothing(name):
    forward, backward = map(jnp.asarray, displacements((6, 7)))
    mapped = jax.jit(jax.vmap(CONSISTENCIES[name]))(forward[:, None], backward[:, None])
    np.testing.assert_allclose(mapped[:, 0], value_of(name, forward, backward), rtol=1e-5)


@pytest.mark.parametrize("name", CONSISTENCIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_translations_are_exact_inverses_also_across_the_border(name, shape):
    translation = 1.25 * np.arange(1, len(shape) + 1)
    forward = affine_field(shape, np.eye(len(shape)), translation)
    np.testing.assert_allclose(value_of(name, forward, -forward), 0, atol=1e-12)
    # The same translation twice leaves a constant residual, which has no derivative.
    constant = np.sum((2 * translation) ** 2) if name == "inverse_consistency" else 0.0
    np.testing.assert_allclose(value_of(name, forward, forward), constant, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_maps_and_their_inverses(shape):
    scale = 0.6
    pair = [affine_field(shape, factor * np.eye(len(shape))) for factor in (scale, 1 / scale)]
    np.testing.assert_allclose(value_of("inverse_consistency", *pair), 0, atol=1e-10)
    # The gradient also counts cells that the enlargement moves out of the image, for each axis separately, because the
    # inverse is unknown there.
    centres = [np.abs(np.arange(size - 1) + 0.5 - (size - 1) / 2) for size in shape]
    outside = sum(np.mean(c / scale > (size - 1) / 2) for c, size in zip(centres, shape, strict=True))
    assert 0 < outside < len(shape)
    expected = outside * (1 / scale - 1) ** 2 / 2
    np.testing.assert_allclose(value_of("gradient_inverse_consistency", *pair), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_maps_that_are_not_inverse_by_hand(shape):
    """For A and B that stay inside, the Jacobian of the residual is B A - 1 in one order and A B - 1 in the other."""
    identity = np.eye(len(shape))
    a, b = 0.6 * identity + 0.06 * np.random.default_rng(0).standard_normal((2, *identity.shape))
    pair = [affine_field(shape, matrix, 0.05) for matrix in (a, b)]
    for field in pair:
        reached = grid_of(shape) + field
        assert (reached > 0).all()
        assert (reached < np.array(shape) - 1).all()
    expected = (np.sum((b @ a - identity) ** 2) + np.sum((a @ b - identity) ** 2)) / 2
    np.testing.assert_allclose(value_of("gradient_inverse_consistency", *pair), expected, rtol=1e-5)


@pytest.mark.parametrize("name", CONSISTENCIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_zero_displacements_have_loss_0_and_no_gradient(name, shape):
    zero = np.zeros((2, *shape, len(shape)), np.float32)
    values, gradients = value_and_gradients(name, zero, zero)
    for found in (values, *gradients):
        np.testing.assert_array_equal(found, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONSISTENCIES)
def test_second_derivatives_at_zero(name):
    """Forward over reverse. With one displacement zero, the losses are quadratic in the other if it points inwards."""
    zero = jnp.zeros((1, 4, 5, 2))
    direction = jnp.asarray(np.random.default_rng(0).standard_normal(zero.shape), jnp.float32)

    @jax.jit
    def curvature(direction):
        gradient = jax.grad(lambda f: CONSISTENCIES[name](f, zero).sum())
        return jnp.vdot(direction, jax.jvp(gradient, (zero,), (direction,))[1])

    inwards = direction.at[:, 0].set(0).at[:, -1].set(0).at[:, :, 0].set(0).at[:, :, -1].set(0)
    found = float(curvature(inwards))
    step = 1e-3 * np.asarray(inwards, np.float64)
    expected = 2e6 * REFERENCES[name](step, np.zeros_like(step))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_voxels_that_leave_the_image_do_not_count_for_inverse_consistency():
    field = np.zeros((2, 6, 7, 2), np.float32)
    field[:, 2, 3, 0] = -30
    # The other order counts, at the voxel from which this one leaves.
    np.testing.assert_allclose(value_of("inverse_consistency", field, np.zeros_like(field)), 30**2 / 42 / 2, rtol=1e-6)
    everywhere = np.full_like(field, 30)
    values, gradients = value_and_gradients("inverse_consistency", everywhere, everywhere)
    for found in (values, *gradients):
        np.testing.assert_array_equal(found, 0)


def test_checkerboards_cost_only_off_the_centres():
    board = 0.1 * (-1.0) ** grid_of((6, 7)).sum(-1)
    field = np.stack([board, board], axis=-1)[None]
    pair = [jnp.asarray(array, jnp.float32) for array in (field, np.zeros_like(field))]
    reference = partial(REFERENCES["gradient_inverse_consistency"], field, np.zeros_like(field))
    compute_at = jax.jit(lambda offset: gradient_inverse_consistency_loss(*pair, offset=offset))
    np.testing.assert_allclose(compute_at(jnp.full((5, 6, 2), 0.5)), 0, atol=1e-12)
    # The slope along each axis is twice the height, times 1 - 2 * 0.3, because the sign changes along the other axis.
    # There are two components along two axes, in both orders.
    np.testing.assert_allclose(compute_at(jnp.full((5, 6, 2), 0.3)), 4 * (0.2 * 0.4) ** 2, rtol=1e-4)
    random = np.random.default_rng(0).uniform(0.1, 0.9, (5, 6, 2))
    np.testing.assert_allclose(compute_at(jnp.asarray(random, jnp.float32)), reference(offset=random), rtol=1e-4)


def test_forward_differences_come_close():
    """experiments/consistency/derivatives.py computes the same loss, as exactly as float32 can."""
    pair = displacements((6, 7))
    found = jax.jit(partial(gradient_inverse_consistency_differences, step=1e-2))(*pair)
    np.testing.assert_allclose(found, value_of("gradient_inverse_consistency", *pair), rtol=2e-2)


@pytest.mark.parametrize("name", CONSISTENCIES)
@pytest.mark.parametrize("shapes", [((1, 6, 7, 2), (1, 6, 8, 2)), ((1, 6, 7, 3), (1, 6, 7, 3)), ((6, 7, 2), (6, 7, 2))])
def test_wrong_shapes_are_refused(name, shapes):
    with pytest.raises(ValueError, match=f"^{name}_loss: forward has shape") as error:
        CONSISTENCIES[name](*map(jnp.zeros, shapes))
    assert "\n" not in str(error.value)


def test_an_axis_of_one_voxel_is_refused():
    with pytest.raises(ValueError, match="at least 2 voxels"):
        gradient_inverse_consistency_loss(jnp.zeros((1, 1, 7, 2)), jnp.zeros((1, 1, 7, 2)))
