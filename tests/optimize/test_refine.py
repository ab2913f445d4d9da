"""Refinement from zero and from a displacement, with every field, between grids of different kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from refine_helpers import BSPLINE, DENSE, OBJECTIVE, ONE_LEVEL, VELOCITY, blobs, mse, warped
from scipy.ndimage import gaussian_filter

from air_jax.errors import OptionError
from air_jax.losses import make_objective
from air_jax.optimize import FIELDS, DenseField, Geometry, compile_refine, refine
from air_jax.transforms import corner_jacobian_determinant, warp

# Three pairs of 24 x 24 voxels with these options are one program, whatever they show.
SHARED = {"num_steps": 20, "field": ONE_LEVEL, "tolerance": 1e-6}
# A further field or dimension of a function that another case covers.
DENSE_ONLY = [DENSE, pytest.param(BSPLINE, marks=THOROUGH)]

least_determinant = jax.jit(lambda displacement: corner_jacobian_determinant(displacement).min())


@jax.jit
def objective_at(fixed, moving, displacement):
    return OBJECTIVE(fixed, warp(moving, displacement, mode="nearest"), displacement)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "shape", "there", "here"),
    [
        *((field(), (24, 24), [(10, 11), (14, 12)], [(13, 13), (12, 10)]) for field in FIELDS.values()),
        *((field, (14, 14, 14), [(6, 7, 7)], [(8, 6, 7)]) for field in (DENSE, BSPLINE)),
    ],
)
def test_blobs_are_aligned_without_folding(field, shape, there, here):
    fixed, moving = blobs(shape, there), blobs(shape, here)
    displacement = refine(OBJECTIVE, fixed, moving, num_steps=60, field=field).displacement
    assert np.all(mse(fixed, warped(moving, displacement)) < 0.02 * mse(fixed, moving))
    assert float(least_determinant(displacement)) > 0
    # At the blob's centre, the displacement points from the fixed to the moving centre.
    for each, centre, target in zip(np.asarray(displacement), there, here, strict=True):
        np.testing.assert_allclose(each[tuple(centre)], np.subtract(target, centre), atol=0.6)


@pytest.mark.slow
@pytest.mark.parametrize("field", [ONE_LEVEL, BSPLINE])
def test_pairs_are_independent(field):
    """The second of three pairs, beside others of random images."""
    rng = np.random.default_rng(0)
    images = gaussian_filter(rng.random((2, 2, 3, 24, 24, 1)), (0, 0, 0, 2, 2, 0)).astype(np.float32)
    images[1, :, 1] = images[0, :, 1]
    first, second = (refine(OBJECTIVE, *pairs, **SHARED | {"field": field}) for pairs in images)
    assert np.abs(first.displacement[1]).max() > 0.3
    assert np.abs(first.displacement[0] - second.displacement[0]).max() > 0.3
    np.testing.assert_allclose(first.displacement[1], second.displacement[1], atol=1e-3)
    np.testing.assert_allclose(first.loss[1], second.loss[1], rtol=1e-3)


@pytest.mark.slow
def test_refinement_continues_from_the_given_displacement():
    """The blobs are too far apart for the steps from zero."""
    fixed, moving = (np.concatenate([blobs((24, 24), [centre])] * 3) for centre in [(9, 9), (15, 14)])
    start = np.broadcast_to(np.float32([6, 5]), (3, 24, 24, 2))
    displacement = refine(OBJECTIVE, fixed, moving, start, **SHARED | {"field": BSPLINE}).displacement
    assert np.all(mse(fixed, warped(moving, displacement)) < 1e-3)


@pytest.mark.parametrize("field", [DENSE, BSPLINE, VELOCITY, DenseField(levels=(4, 2))])
def test_no_steps_return_the_start(field):
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(13, 13)])
    start = np.broadcast_to(np.float32([1, 2]), (1, 24, 24, 2))
    solution = refine(OBJECTIVE, fixed, moving, start, num_steps=0, field=field)
    np.testing.assert_array_equal(solution.displacement, start)
    assert (solution.steps.tolist(), solution.converged.tolist()) == ([0], [False])
    if field.factors[-1] == 1:
        np.testing.assert_allclose(solution.loss, objective_at(fixed, moving, start), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("field", [ONE_LEVEL, BSPLINE, VELOCITY])
def test_result_is_never_worse_than_the_start(field):
    """From the best start, and from noise, where the gradient has no direction."""
    rng = np.random.default_rng(0)
    noise = rng.random((1, 24, 24, 1), dtype=np.float32)
    other = rng.random((1, 24, 24, 1), dtype=np.float32)
    fixed = np.concatenate([blobs((24, 24), [(10, 11)]), noise, noise])
    moving = np.concatenate([blobs((24, 24), [(13, 13)]), noise, other])
    start = np.zeros((3, 24, 24, 2), np.float32)
    start[0] = 3, 2
    solution = refine(OBJECTIVE, fixed, moving, start, **SHARED | {"field": field})
    before, after = (np.asarray(objective_at(fixed, moving, u)) for u in (start, solution.displacement))
    assert np.all(after <= before + 1e-7)
    np.testing.assert_allclose(solution.loss, after, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [pytest.param(40, marks=THOROUGH), 160])
@pytest.mark.parametrize("field", DENSE_ONLY)
def test_converged_pair_stays_while_another_continues(field, num_steps):
    fixed = np.concatenate([blobs((24, 24), [(11, 12)])] * 2) + 0.01
    moving = np.concatenate([fixed[:1], blobs((24, 24), [(13, 10)])])
    solution = refine(OBJECTIVE, fixed, moving, num_steps=num_steps, field=field, tolerance=1e-3)
    np.testing.assert_array_equal(solution.displacement[0], 0)
    assert mse(fixed, warped(moving, solution.displacement))[1] < 0.1 * mse(fixed, moving)[1]
    # The gain of the first pair is 0. Its step is halved until the shortest, 5 checks later.
    if num_steps == 40:
        assert solution.steps.tolist() == [40, 40]  # the steps suffice
    else:
        assert bool(solution.converged[0])
        assert solution.steps[0] == 50 * len(field.levels)
        assert solution.steps[1] > 0


@pytest.mark.slow
def test_large_tolerance_stops_early_and_a_small_one_does_not():
    fixed, moving = (np.concatenate([blobs((24, 24), [centre])] * 3) for centre in [(10, 11), (14, 13)])
    hasty, patient = (refine(OBJECTIVE, fixed, moving, **SHARED | options) for options in ({"tolerance": 2.0}, {}))
    ratio = mse(fixed, warped(moving, patient.displacement)) / mse(fixed, warped(moving, hasty.displacement))
    assert np.all(ratio < 0.5)
    assert [solution.steps.tolist() for solution in (hasty, patient)] == [[10] * 3, [20] * 3]
    assert [solution.converged.tolist() for solution in (hasty, patient)] == [[True] * 3, [False] * 3]
    # The first check is after ten steps.
    np.testing.assert_allclose(hasty.loss, objective_at(fixed, moving, hasty.displacement), rtol=1e-4)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_stop_at_the_first_check_is_ten_steps():
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(14, 13)])
    stopped, ten = (
        refine(OBJECTIVE, fixed, moving, **SHARED | options) for options in ({"tolerance": 2.0}, {"num_steps": 10})
    )
    np.testing.assert_allclose(stopped.displacement, ten.displacement, atol=1e-5)
    assert (ten.steps.tolist(), ten.converged.tolist()) == ([10], [False])


@pytest.mark.slow
def test_steps_that_are_no_multiple_of_ten_are_counted():
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(14, 13)])
    solution = refine(OBJECTIVE, fixed, moving, num_steps=27, field=ONE_LEVEL)
    assert solution.steps.tolist() == [27]
    assert solution.steps.dtype == jnp.int32
    np.testing.assert_allclose(solution.loss, objective_at(fixed, moving, solution.displacement), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("field", DENSE_ONLY)
def test_matrix_leads_to_a_moving_grid_of_another_size(field):
    """The moving grid is shifted, with smaller voxels along the first axis and larger ones along the second."""
    there, here = (13.0, 12.0), (11.0, 14.0)
    fixed = blobs((26, 24), [there])
    moving = blobs((40, 18), [(here[0] + 2, here[1] - 1)], voxel_size=(0.7, 1.5))
    matrix = np.array([[[1 / 0.7, 0, 2 / 0.7], [0, 1 / 1.5, -1 / 1.5]]], np.float32)
    geometry = Geometry(jnp.asarray(matrix), (1.0, 1.0), (0.7, 1.5))
    displacement = refine(OBJECTIVE, fixed, moving, num_steps=60, field=field, geometry=geometry).displacement
    before = warped(moving, np.zeros((1, 26, 24, 2)), matrix)
    assert mse(fixed, warped(moving, displacement, matrix)) < 0.05 * mse(fixed, before)
    np.testing.assert_allclose(np.asarray(displacement)[0, 13, 12], np.subtract(here, there), atol=0.6)


@pytest.mark.slow
@pytest.mark.parametrize("field", DENSE_ONLY)
def test_anisotropic_voxels(field):
    """Voxels three times as long along the second axis: the same blobs in mm, the same motion in mm."""
    size = np.array([1.0, 3.0])
    there, here = np.array([14.0, 16.5]), np.array([17.0, 14.0])
    fixed, moving = (blobs((32, 11), [centre], width=4.0, voxel_size=size) for centre in (there, here))
    geometry = Geometry(voxel_size=size)
    displacement = refine(OBJECTIVE, fixed, moving, num_steps=60, field=field, geometry=geometry).displacement
    assert mse(fixed, warped(moving, displacement)) < 0.05 * mse(fixed, moving)
    assert float(least_determinant(displacement)) > 0
    at_centre = np.asarray(displacement)[0, 14, 5:7].mean(axis=0) * size
    np.testing.assert_allclose(at_centre, here - there, atol=0.9)


@pytest.mark.slow
def test_unit_of_voxel_sizes_does_not_matter():
    fixed, moving = blobs((24, 16), [(10, 8)]), blobs((24, 16), [(13, 7)])
    mm, metres = (
        refine(OBJECTIVE, fixed, moving, num_steps=4, field=ONE_LEVEL, geometry=Geometry(voxel_size=size))
        for size in ((1.0, 1.5), (0.001, 0.0015))
    )
    assert np.abs(mm.displacement).max() > 0.3
    np.testing.assert_allclose(mm.displacement, metres.displacement, atol=1e-3)


@pytest.mark.slow
def test_refine_under_jit_and_vmap():
    fixed = blobs((24, 24), [(11, 12), (12, 11), (10, 10)])
    moving = blobs((24, 24), [(13, 11), (10, 12), (10, 11)])

    def one(fixed, moving):
        return jax.tree.map(lambda array: array[0], refine(OBJECTIVE, fixed[None], moving[None], **SHARED))

    plain = refine(OBJECTIVE, fixed, moving, **SHARED)
    mapped = jax.jit(jax.vmap(one))(fixed, moving)
    assert np.abs(plain.displacement).max() > 0.3
    np.testing.assert_allclose(mapped.displacement, plain.displacement, atol=1e-2)
    np.testing.assert_array_equal(mapped.steps, plain.steps)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"field": "dense"}, OptionError, r"field='dense': must be an object such as DenseField\(update_sigma=3\.0"),
        ({"num_steps": -1}, OptionError, "num_steps=-1: must not be negative"),
        ({"tolerance": float("nan")}, OptionError, "tolerance=nan: must be a finite number"),
        ({"geometry": Geometry(voxel_size=(1, 1, 1))}, OptionError, r"voxel_size=\(1.0, 1.0, 1.0\): must have 2"),
        ({"geometry": Geometry(jnp.eye(2, 3))}, ValueError, r"geometry\.matrix has shape \(2, 3\)"),
        ({"displacement": jnp.zeros((1, 8, 8, 3))}, ValueError, r"displacement has shape \(1, 8, 8, 3\)"),
        ({"moving": np.zeros((1, 8, 9, 1), np.float32)}, ValueError, r"moving \(1, 8, 9, 1\); give geometry\.matrix"),
    ],
)
@pytest.mark.parametrize("function", [refine, compile_refine])
def test_wrong_arguments_are_refused(function, options, error, message):
    image = np.zeros((1, 8, 8, 1), np.float32)
    arguments = {"objective": OBJECTIVE, "fixed": image, "moving": image, "num_steps": 3, **options}
    with pytest.raises(error, match=message) as raised:
        function(**arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(24, 24), pytest.param((12, 14, 10), marks=THOROUGH)])
def test_smaller_sigmas_follow_finer_detail(shape):
    rng = np.random.default_rng(0)
    fixed, moving = gaussian_filter(rng.random((2, 1, *shape, 1)), (0, 0, *(1.5,) * len(shape), 0)).astype(np.float32)
    objective = make_objective("mse")

    def displaced(update_sigma, total_sigma):
        """Returns the error, the roughness, and the second differences relative to the size of the displacements."""
        field = DenseField(update_sigma, total_sigma, levels=(1,))
        u = np.asarray(refine(objective, fixed, moving, num_steps=9, field=field).displacement)
        roughness = sum(np.square(np.diff(u, axis=axis)).mean() for axis in range(1, len(shape) + 1))
        detail = np.square(np.diff(u, 2, axis=1)).mean() / np.square(u).mean()
        return mse(fixed, warped(moving, u)), roughness, detail

    rough, smooth_update, smooth_total = displaced(1.0, 0.0), displaced(4.0, 0.0), displaced(1.0, 1.0)
    assert rough[0] < smooth_update[0]
    assert rough[2] > 3 * smooth_update[2]
    assert 0 < smooth_total[1] < rough[1]


# ---- Compilation -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_equal_settings_are_compiled_once(caplog):
    """Equal objectives, fields and geometries that are made again."""

    def run(weight):
        image = jnp.zeros((1, 9, 9, 1))
        objective = make_objective("mse", diffusion=weight)
        field, geometry = DenseField(2.0, levels=[1]), Geometry(jnp.eye(2, 3)[None], [1.0, 2.0])
        refine(objective, image, image, num_steps=1, field=field, geometry=geometry)

    def compilations():
        messages = [record.getMessage() for record in caplog.records]
        return sum(message.startswith("Compiling") and "_refine" in message for message in messages)

    with jax.log_compiles(), caplog.at_level("WARNING"):
        run(0.5)
        assert compilations() == 1
        run(0.5)
        assert compilations() == 1
        run(0.25)
        assert compilations() == 2


@pytest.mark.slow
def test_compile_refine_fills_the_persistent_cache():
    events = []
    jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
    before = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        # NumPy arrays, so that nothing else is compiled.
        image, start = np.zeros((1, 9, 11, 1), np.float32), np.zeros((1, 9, 11, 2), np.float32)
        # A setting that no earlier run of the tests has compiled.
        settings = {"num_steps": 1, "field": ONE_LEVEL, "tolerance": float(np.random.default_rng().random())}
        compile_refine(OBJECTIVE, image, image, start, **settings)
        jax.clear_caches()
        events.clear()
        refine(OBJECTIVE, image, image, start, **settings)
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    assert events.count("/jax/compilation_cache/cache_hits") == 1
    assert "/jax/compilation_cache/cache_misses" not in events
