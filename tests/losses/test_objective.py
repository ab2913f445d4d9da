"""The objective: its terms, equality by value, and refused options."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.errors import OptionError
from air_jax.losses import Objective, lncc_loss, make_objective, mse_loss
from air_jax.optimize import refine


def pair_and_displacement(channels=1):
    rng = np.random.default_rng(0)
    fixed, warped = rng.random((2, 3, 6, 7, channels), dtype=np.float32)
    return tuple(jnp.asarray(array, jnp.float32) for array in (fixed, warped, rng.standard_normal((3, 6, 7, 2))))


def test_objective_adds_weighted_terms_and_reports_them_unweighted():
    fixed, warped, displacement = pair_and_displacement()
    loss, terms = make_objective("mse", diffusion=0.5, ncc=2.0)(fixed, warped, displacement)
    assert list(terms) == ["mse", "ncc", "diffusion"]
    np.testing.assert_allclose(terms["mse"], jnp.mean((fixed - warped) ** 2, axis=(1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(loss, terms["mse"] + 2 * terms["ncc"] + 0.5 * terms["diffusion"], rtol=1e-6)
    loss, terms = make_objective("mse", diffusion=0.0)(fixed, warped, displacement)
    assert set(terms) == {"mse"}
    np.testing.assert_array_equal(loss, terms["mse"])


def test_objective_takes_any_function_as_similarity():
    fixed, warped, displacement = pair_and_displacement()
    small_windows = partial(lncc_loss, window=3)
    objective = make_objective(small_windows, bending=0.5)
    loss, terms = jax.jit(lambda objective, *args: objective(*args), static_argnums=0)(
        objective, fixed, warped, displacement
    )
    assert set(terms) == {"similarity", "bending"}
    np.testing.assert_allclose(terms["similarity"], small_windows(fixed, warped), rtol=1e-5)
    np.testing.assert_allclose(loss, terms["similarity"] + 0.5 * terms["bending"], rtol=1e-5)


def test_window_applies_to_the_similarities_that_have_one():
    fixed, warped, displacement = pair_and_displacement()
    _, terms = make_objective("mse", window=3, lncc=1.0)(fixed, warped, displacement)
    np.testing.assert_allclose(terms["lncc"], lncc_loss(fixed, warped, window=3), rtol=1e-6)
    assert np.abs(terms["lncc"] - lncc_loss(fixed, warped)).max() > 1e-3
    np.testing.assert_allclose(terms["mse"], mse_loss(fixed, warped), rtol=1e-6)


def test_class_channels_count_by_their_overlap_beside_the_image_channels():
    fixed, warped, displacement = pair_and_displacement(channels=3)
    objective = make_objective("mse", diffusion=0.5)
    plain, _ = objective(fixed[..., :1], warped[..., :1], displacement)
    loss, terms = objective.with_overlap(3.0, 2)(fixed, warped, displacement)
    sides = [np.asarray(side[..., 1:], np.float64).reshape(3, -1) for side in (fixed, warped)]
    overlap = 1 - 2 * np.sum(sides[0] * sides[1], axis=1) / (sides[0].sum(1) + sides[1].sum(1))
    np.testing.assert_allclose(loss, plain + 3 * overlap, rtol=1e-5)
    np.testing.assert_allclose(terms["pooled_dice"], overlap, rtol=1e-5)


def test_objectives_are_equal_by_value_and_print_their_terms():
    objective = make_objective("lncc", window=5, folding=5, diffusion=0.0, bending=0.1)
    same = make_objective("lncc", window=5, bending=0.1, folding=5.0, mse=0.0)
    assert objective == same
    assert hash(objective) == hash(same)
    assert objective == Objective("lncc", window=5, weights=(("folding", 5.0), ("bending", 0.1)))
    assert objective.weights == (("bending", 0.1), ("folding", 5.0))
    assert objective.with_overlap(1.0, 2) == same.with_overlap(1, 2)
    others = (make_objective("lncc", window=7, folding=5, bending=0.1), make_objective("lncc", window=5, folding=5))
    assert not {objective} & {*others, objective.with_overlap(1.0, 2), make_objective("ncc")}
    for part in ("'lncc'", "window=5", "('folding', 5.0)", "('bending', 0.1)"):
        assert part in repr(objective)
    with pytest.raises(AttributeError):
        objective.window = 3


@pytest.mark.slow
def test_the_same_objective_made_twice_compiles_once():
    """Tracing `refine` calls the similarity. A second objective of equal value must find the compiled program."""
    calls = []

    def counted(fixed, warped):
        calls.append(fixed.shape)
        return mse_loss(fixed, warped)

    fixed, warped, displacement = pair_and_displacement()
    zero = jnp.zeros_like(displacement)
    for number in range(2):
        refine(make_objective(counted, folding=1.0).with_overlap(0.0, 0), fixed, warped, zero, num_steps=1)
        if not number:
            first = len(calls)
    assert first > 0
    assert len(calls) == first
    refine(make_objective(counted, folding=2.0), fixed, warped, zero, num_steps=1)
    assert len(calls) > first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_objective("nope"), "similarity='nope': must be one of mse, ncc"),
        (lambda: make_objective("mse", nope=1.0), "nope=1.0: no loss has this name"),
        (lambda: make_objective("mse", nope=0.0), "nope=0.0: no loss has this name"),
        (lambda: make_objective("mse", folding=-1.0), "folding=-1.0: a weight must be"),
        (lambda: make_objective("mse", folding=float("nan")), "folding=nan: a weight must be"),
        (lambda: make_objective("mse", mse=2.0), "mse=2.0: is the similarity already"),
        (lambda: make_objective("mse", window=5), "window=5: mse has no windows"),
        (lambda: make_objective("lncc", window=4), "window=4: must be odd"),
        (lambda: make_objective("mse").with_overlap(-1.0, 2), "weight=-1.0: a weight must be"),
        (lambda: make_objective("mse").with_overlap(1.0, -2), "num_classes=-2: must not be negative"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_weights_are_numbers_or_arrays_also_traced():
    pair, weights = pair_and_displacement(), np.array([0.0, 0.1, 2.0], np.float32)
    found = jax.jit(jax.vmap(lambda weight: make_objective("mse", diffusion=weight)(*pair)[0]))(weights)
    for weight, ours in zip(weights, found, strict=True):
        np.testing.assert_allclose(ours, make_objective("mse", diffusion=float(weight))(*pair)[0], rtol=1e-5)


def test_each_pair_has_a_weight_of_its_own():
    pair = pair_and_displacement()
    found, terms = make_objective("mse", diffusion=np.array([0.5, 2.0, 1.0], np.float32))(*pair)
    np.testing.assert_allclose(found, terms["mse"] + np.array([0.5, 2.0, 1.0]) * terms["diffusion"], rtol=1e-6)


def test_arrays_as_weights_share_a_program():
    count = []

    @jax.jit
    def loss(objective, *pair):
        count.append(1)
        return objective(*pair)[0]

    pair = pair_and_displacement()
    weights = np.array([0.1, 0.2, 0.4], np.float32)
    values = [loss(make_objective("mse", diffusion=jnp.asarray(weight)), *pair)[0] for weight in weights]
    assert len(count) == 1
    np.testing.assert_allclose(values[2] - values[1], 2 * (values[1] - values[0]), rtol=1e-4)
    for _ in range(2):
        np.testing.assert_allclose(loss(make_objective("mse", diffusion=0.1), *pair)[0], values[0], rtol=1e-5)
    assert len(count) == 2


def test_a_similarity_with_parameters_has_derivatives():
    def similarity(scale, fixed, warped):
        return jnp.mean(scale * (fixed - warped) ** 2, axis=(1, 2, 3))

    pair = pair_and_displacement()
    slope = jax.grad(lambda scale: jnp.sum(make_objective(jax.tree_util.Partial(similarity, scale))(*pair)[0]))(3.0)
    np.testing.assert_allclose(slope, np.sum(np.mean((pair[0] - pair[1]) ** 2, axis=(1, 2, 3))), rtol=1e-5)


@pytest.mark.parametrize("weight", [np.array([0.1, -1.0]), np.array(np.nan), np.zeros((2, 2))])
def test_arrays_of_weights_are_checked(weight):
    with pytest.raises(OptionError, match="diffusion"):
        make_objective("mse", diffusion=weight)
