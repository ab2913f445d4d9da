"""Checks of arrays and options: values at the limits, NumPy's and JAX's types, and arrays without values."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from air_jax import OptionError, checks, metrics, optimize, transforms
from air_jax.losses import make_objective

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [0, 3, np.int64(3), np.uint8(3), 5])
def test_integers_are_accepted(value):
    checks.check_integer("option", value, 0, 5)


@pytest.mark.parametrize("value", [-1, 6, 1.0, np.float64(2), True, np.bool_(True), "3", None, NAN, [3], 10**30])
def test_other_values_are_no_integers_from_0_to_5(value):
    with pytest.raises(OptionError, match=r"^option=") as error:
        checks.check_integer("option", value, 0, 5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [0, 0.5, np.float32(2), np.int32(2), 3e38])
def test_numbers_are_accepted(value):
    checks.check_number("option", value, low=0)


@pytest.mark.parametrize("value", [-0.1, NAN, INF, -INF, 1e39, 10**400, True, "1", None, [1.0], 1j, np.array([1.0])])
def test_other_values_are_no_finite_numbers_from_0(value):
    with pytest.raises(OptionError, match=r"^option="):
        checks.check_number("option", value, low=0)


def test_0_is_not_above_0():
    with pytest.raises(OptionError, match="must be above 0"):
        checks.check_number("option", 0.0, positive=True)


@pytest.mark.parametrize("value", [(1, 2), [0.5, 3], np.array([1.5, 2.5]), (np.float32(1), 2)])
def test_spacings_are_accepted(value):
    checks.check_spacing("spacing", value, 2)


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), (0, 1), (-1, 1), (NAN, 1), (INF, 1), ("a", 1), 2.0, "12", None, ()])
def test_other_values_are_no_spacings_of_two_axes(value):
    with pytest.raises(OptionError, match=r"must be finite and above 0, one an axis \(2\)$"):
        checks.check_spacing("spacing", value, 2)


def test_label_ids_end_where_the_integers_of_jax_end():
    checks.check_label_ids([1, -5, 2**31 - 1])
    checks.check_label_ids(np.array([3, 1], np.uint16))
    checks.check_label_ids((0, 1), background=True)
    for wrong in ([], [0], [1, 1], [2**31], [1.5], [True], ["1"]):
        with pytest.raises(OptionError, match=r"^label_ids="):
            checks.check_label_ids(wrong)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_floats_of_every_size_are_floats(dtype):
    checks.check_arrays("function", "f", array=np.zeros(3, dtype), other=jnp.zeros(3))


@pytest.mark.parametrize("array", [np.zeros(3, int), np.zeros(3, bool), np.zeros(3, complex), np.zeros(3, object)])
def test_other_dtypes_are_no_floats(array):
    with pytest.raises(ValueError, match=r"^function: array has dtype \w+; give floats$"):
        checks.check_arrays("function", "f", array=array)


@pytest.mark.parametrize("value", [[1.0], 1.0, "array", None])
def test_lists_and_numbers_are_no_arrays(value):
    with pytest.raises(TypeError, match=r"^function: array is \w+; give an array$"):
        checks.check_arrays("function", "f", array=value)


def test_values_that_are_not_finite_are_found_in_both_kinds_of_arrays():
    checks.check_finite("function", array=np.ones(3), other=jnp.ones(3, jnp.bfloat16), integers=np.ones(3, int))
    for value in (NAN, INF, -INF):
        for array in (np.array([0, value]), jnp.array([value, 0]), jnp.array([value], jnp.bfloat16)):
            with pytest.raises(ValueError, match=r"^function: array has values that are NaN or infinite"):
                checks.check_finite("function", array=array)


@pytest.mark.slow
def test_arrays_without_values_pass_the_checks_of_values():
    """Inside of `jit` and `vmap`, and for shapes that are only to be compiled."""
    checks.check_finite("function", array=jax.ShapeDtypeStruct((3,), jnp.float32))
    jax.eval_shape(lambda array: checks.check_finite("function", array=array), jnp.full(3, NAN))
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    for function in (
        lambda image: optimize.refine(make_objective("mse"), image, image, num_steps=1).displacement,
        lambda image: optimize.register_affine(lambda a, b: jnp.mean((a - b) ** 2, (1, 2, 3)), image, image),
        lambda image: transforms.smooth(image, 1.0),
    ):
        jax.eval_shape(function, image)
        jax.eval_shape(jax.vmap(function), jax.ShapeDtypeStruct((2, 1, 8, 8, 1), jnp.float32))


def scores_of(displacement):
    inside = jnp.ones(displacement.shape[:-1], bool)
    more = {"learn2reg": metrics.sd_log_jacobian_learn2reg(displacement)}
    more |= {"compressed": metrics.compressed_percent(displacement, inside)}
    return metrics.displacement_scores(displacement) | more | {"ndv": metrics.ndv_percent(displacement, mask=inside)}


def test_only_the_pair_with_a_value_that_is_not_finite_has_scores_that_are_nan():
    """A comparison with NaN is false, so such a pair would have no folds. The value is at a corner, which has no
    determinant."""
    displacement = np.random.default_rng(0).standard_normal((3, 6, 7, 2)).astype(np.float32)
    alone = jax.jit(scores_of)(jnp.asarray(displacement))
    displacement[1, 0, 0, 0] = NAN
    scores = jax.jit(scores_of)(jnp.asarray(displacement))
    for name, values in scores.items():
        np.testing.assert_array_equal(np.isnan(values), [False, True, False], err_msg=name)
        np.testing.assert_allclose(values[::2], alone[name][::2], rtol=1e-6, err_msg=name)


def test_images_have_at_least_one_spatial_axis():
    lines = jnp.ones((2, 5, 1))
    np.testing.assert_array_equal(metrics.mse(lines, 0 * lines), [1, 1])
    with pytest.raises(ValueError, match=r"must be \[B, \*S, C\]"):
        metrics.mse(lines[0], lines[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: transforms.intensity.normalize(np.ones((4, 4)), []),
        lambda: optimize.fit_landmarks(np.ones((4, 2)), np.ones((4, 2)), kind=[]),
        lambda: optimize.fit_landmarks(np.ones((4, 2)), np.ones((4, 2)), kind="elastic"),
    ],
)
def test_a_word_that_is_no_choice_is_refused_whatever_its_type(make):
    with pytest.raises(OptionError, match="must be one of"):
        make()


def test_images_that_are_not_finite_have_scores_that_are_nan():
    fixed = np.ones((2, 3, 4, 1), np.float32)
    warped = fixed.copy()
    warped[0, 0, 0, 0] = INF
    for name, values in metrics.image_scores(fixed, warped).items():
        np.testing.assert_array_equal(np.isnan(values), [True, False], err_msg=name)
        assert values[1] == {"mse": 0, "dice": 1}[name]


def test_the_largest_seed_is_a_seed_of_its_own():
    keys = [jax.random.key_data(jax.random.key(seed)) for seed in (0, 1, checks.LARGEST_SEED)]
    assert len({tuple(key.tolist()) for key in keys}) == 3
