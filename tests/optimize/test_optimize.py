"""Refinement: from zero, from a displacement, pair by pair, with every field and on grids of different kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from air_jax import metrics, warp
from air_jax.losses import make_objective
from air_jax.optimize import FIELDS, refine
from air_jax.transforms import apply_affine, corner_jacobian_determinant, identity_grid, sample, with_edges

OBJECTIVE = make_objective("mse", folding=5.0)
# One level of B-splines compiles several times as fast as all of them.
FEW_LEVELS = {"dense": ((2, 1), (1, 1)), "control_grid": ((1, 2),), "velocity": ((1, 2),)}


def blobs(shape, centres, width=3.0, voxel_size=None):
    """Smooth blobs, one an image, at the given centres; with `voxel_size`, centres and widths are in its unit."""
    grid = np.asarray(identity_grid(shape)) * (1.0 if voxel_size is None else np.asarray(voxel_size))
    return np.stack([np.exp(-((grid - np.asarray(centre)) ** 2).sum(axis=-1) / (2 * width**2)) for centre in centres])[
        ..., None
    ].astype(np.float32)


@pytest.mark.parametrize(
    ("field", "shape", "there", "here"),
    [
        *((field, (24, 24), [(10, 11), (14, 12)], [(13, 13), (12, 10)]) for field in FIELDS),
        *((field, (14, 14, 14), [(6, 7, 7)], [(8, 6, 7)]) for field in ("dense", "control_grid")),
    ],
)
def test_blobs_are_brought_together_without_folds(shape, there, here, field):
    fixed, moving = blobs(shape, there), blobs(shape, here)
    start = jnp.zeros((len(there), *shape, len(shape)))
    levels = None if len(shape) == 2 else FEW_LEVELS[field]
    displacement = refine(OBJECTIVE, fixed, moving, start, num_steps=60, field=field, levels=levels)
    before, after = (metrics.image_scores(fixed, warp(moving, u))["mse"] for u in (start, displacement))
    assert np.all(after < 0.02 * before)
    assert float(corner_jacobian_determinant(displacement).min()) > 0
    # Where the blob is, the field points from its place in the fixed image to that in the moving one.
    for each, centre, target in zip(displacement, there, here, strict=True):
        np.testing.assert_allclose(each[tuple(centre)], np.subtract(target, centre), atol=0.6)


@pytest.mark.parametrize("field", ["dense", "control_grid"])
def test_pairs_do_not_see_each_other(field):
    rng = np.random.default_rng(0)
    fixed, moving = (gaussian_filter(rng.random((3, 20, 20, 1)), (0, 2, 2, 0)).astype(np.float32) for _ in range(2))
    start = jnp.zeros((3, 20, 20, 2))
    options = {"num_steps": 20, "field": field, "levels": FEW_LEVELS[field][-1:]}
    together = refine(OBJECTIVE, fixed, moving, start, **options)
    alone = refine(OBJECTIVE, fixed[1:2], moving[1:2], start[1:2], **options)
    assert np.abs(alone).max() > 0.3
    np.testing.assert_allclose(together[1:2], alone, atol=1e-3)


def test_it_goes_on_from_where_it_starts():
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(13, 13)])
    start = jnp.broadcast_to(jnp.asarray([3.0, 2.0]), (1, 24, 24, 2))
    displacement = refine(OBJECTIVE, fixed, moving, start, num_steps=3)
    assert metrics.image_scores(fixed, warp(moving, displacement))["mse"] < 1e-3
    for field in FIELDS:
        np.testing.assert_array_equal(refine(OBJECTIVE, fixed, moving, start, num_steps=0, field=field), start)


@pytest.mark.parametrize("field", FIELDS)
def test_the_result_is_never_worse_than_the_start(field):
    """From the best start there is, and from noise that gives no direction."""
    rng = np.random.default_rng(0)
    noise = rng.random((1, 24, 24, 1), dtype=np.float32)
    other = rng.random((1, 24, 24, 1), dtype=np.float32)
    fixed = np.concatenate([blobs((24, 24), [(10, 11)]), noise, noise])
    moving = np.concatenate([blobs((24, 24), [(13, 13)]), noise, other])
    start = jnp.zeros((3, 24, 24, 2)).at[0].set(jnp.asarray([3.0, 2.0]))
    levels = FEW_LEVELS[field][-1:]
    displacement = refine(OBJECTIVE, fixed, moving, start, num_steps=20, field=field, levels=levels)
    before, after = (OBJECTIVE(fixed, warp(moving, u, mode="nearest"), u)[0] for u in (start, displacement))
    assert np.all(after <= before + 1e-7)


@pytest.mark.parametrize("field", ["dense", "control_grid"])
def test_a_pair_that_has_converged_stays_while_another_goes_on(field):
    fixed = np.concatenate([blobs((24, 24), [(11, 12)])] * 2) + 0.01
    moving = np.concatenate([fixed[:1], blobs((24, 24), [(13, 10)])])
    start = jnp.zeros((2, 24, 24, 2))
    options = {"num_steps": 40, "field": field, "levels": FEW_LEVELS[field], "tolerance": 1e-3}
    displacement = refine(OBJECTIVE, fixed, moving, start, **options)
    np.testing.assert_array_equal(displacement[0], 0)
    assert float(metrics.mse(fixed, warp(moving, displacement))[1]) < 0.1 * float(metrics.mse(fixed, moving)[1])


def test_a_large_tolerance_stops_early_and_a_small_one_does_not():
    fixed, moving = blobs((24, 24), [(10, 11)]), blobs((24, 24), [(14, 13)])
    options = {"num_steps": 40, "field": "dense", "levels": ((1, 1),)}
    start = jnp.zeros((1, 24, 24, 2))
    hasty, patient, ten = (
        refine(OBJECTIVE, fixed, moving, start, **{**options, **change})
        for change in ({"tolerance": 2.0}, {"tolerance": 1e-6}, {"num_steps": 10})
    )
    np.testing.assert_allclose(hasty, ten, atol=1e-5)  # the first ten steps count in any case
    errors = [float(metrics.mse(fixed, warp(moving, u))[0]) for u in (hasty, patient)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("field", ["dense", "control_grid"])
def test_a_matrix_leads_to_a_moving_grid_of_another_size(field):
    """The moving grid is shifted, with smaller voxels along the first axis and larger ones along the second."""
    there, here = (13.0, 12.0), (11.0, 14.0)
    fixed = blobs((26, 24), [there])
    moving = blobs((40, 18), [(here[0] + 2, here[1] - 1)], voxel_size=(0.7, 1.5))
    matrix = np.array([[[1 / 0.7, 0, 2 / 0.7], [0, 1 / 1.5, -1 / 1.5]]], np.float32)
    displacement = refine(
        OBJECTIVE,
        fixed,
        moving,
        jnp.zeros((1, 26, 24, 2)),
        num_steps=60,
        field=field,
        levels=FEW_LEVELS[field],
        matrix=jnp.asarray(matrix),
        voxel_size=(1.0, 1.0),
        moving_voxel_size=(0.7, 1.5),
    )
    points = apply_affine(matrix, identity_grid((26, 24))[None] + displacement)
    before = sample(moving, apply_affine(matrix, identity_grid((26, 24))[None]), mode="nearest")
    warped = sample(moving, points, mode="nearest")
    assert float(metrics.mse(fixed, warped)[0]) < 0.05 * float(metrics.mse(fixed, before)[0])
    np.testing.assert_allclose(displacement[0, 13, 12], np.subtract(here, there), atol=0.6)


@pytest.mark.parametrize("field", ["dense", "control_grid"])
def test_long_voxels(field):
    """Voxels three times as long along the second axis: the same blobs in mm, the same motion in mm."""
    size = np.array([1.0, 3.0])
    there, here = np.array([14.0, 16.5]), np.array([17.0, 14.0])
    fixed, moving = (blobs((32, 11), [centre], width=4.0, voxel_size=size) for centre in (there, here))
    start = jnp.zeros((1, 32, 11, 2))
    options = {"field": field, "levels": FEW_LEVELS[field], "voxel_size": size}
    displacement = refine(OBJECTIVE, fixed, moving, start, num_steps=60, **options)
    before, after = (float(metrics.mse(fixed, warp(moving, u))[0]) for u in (start, displacement))
    assert after < 0.05 * before
    assert float(corner_jacobian_determinant(displacement).min()) > 0
    at_centre = 0.5 * (displacement[0, 14, 5] + displacement[0, 14, 6]) * size
    np.testing.assert_allclose(at_centre, here - there, atol=0.9)


def test_the_unit_of_voxel_sizes_does_not_matter():
    fixed, moving = blobs((24, 16), [(10, 8)]), blobs((24, 16), [(13, 7)])
    start = jnp.zeros((1, 24, 16, 2))
    mm, metres = (
        refine(OBJECTIVE, fixed, moving, start, num_steps=10, field="dense", levels=((1, 1),), voxel_size=size)
        for size in ((1.0, 1.5), (0.001, 0.0015))
    )
    np.testing.assert_allclose(mm, metres, atol=1e-3)


def test_under_jit_and_vmap():
    fixed, moving = blobs((20, 20), [(9, 10), (10, 9)]), blobs((20, 20), [(11, 9), (8, 10)])
    start = jnp.zeros((2, 20, 20, 2))
    options = {"num_steps": 20, "field": "dense", "levels": ((1, 1),), "tolerance": 1e-4}

    def one(fixed, moving, start):
        return refine(OBJECTIVE, fixed[None], moving[None], start[None], **options)[0]

    plain = refine(OBJECTIVE, fixed, moving, start, **options)
    mapped = jax.jit(jax.vmap(one))(fixed, moving, start)
    assert np.abs(plain).max() > 0.3
    np.testing.assert_allclose(mapped, plain, atol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field": "spline"}, "field is 'spline'; it must be one of dense, control_grid, velocity"),
        ({"num_steps": -1}, "num_steps is -1"),
        ({"levels": ()}, r"levels \(\)"),
        ({"levels": ((0, 1),)}, r"levels \(\(0, 1\),\)"),
        ({"levels": ((1, 0),)}, r"levels \(\(1, 0\),\)"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    image = np.zeros((1, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=message) as error:
        refine(OBJECTIVE, image, image, jnp.zeros((1, 8, 8, 2)), **{"num_steps": 3, **options})
    assert "\n" not in str(error.value)


def test_a_fluid_of_less_sigma_follows_finer_detail():
    rng = np.random.default_rng(0)
    fixed, moving = (gaussian_filter(rng.random((1, 24, 24, 1)), (0, 1.5, 1.5, 0)).astype(np.float32) for _ in range(2))
    start = jnp.zeros((1, 24, 24, 2))
    rough, smooth = (
        refine(OBJECTIVE, fixed, moving, start, num_steps=20, field="dense", levels=((1, 1),), update_sigma=sigma)
        for sigma in (1.0, 4.0)
    )
    # Second differences, against how far the fields reach.
    detail = [float(np.square(np.diff(u, 2, axis=1)).mean() / np.square(u).mean()) for u in (rough, smooth)]
    assert detail[0] > 3 * detail[1]
    scores = [float(metrics.image_scores(fixed, warp(moving, u))["mse"][0]) for u in (rough, smooth)]
    assert scores[0] < scores[1]


@pytest.mark.parametrize("shape", [(9, 10), (7, 8, 9)])
def test_edges_are_the_size_of_the_gradient(shape):
    image = np.random.default_rng(0).random((2, *shape, 1)).astype(np.float32)
    sigmas = (0, *(0.7,) * len(shape))
    smoothed = gaussian_filter(image[..., 0].astype(np.float64), sigmas, mode="nearest", truncate=3.0)
    gradient = np.stack(np.gradient(smoothed, axis=tuple(range(1, 1 + len(shape)))))
    expected = np.stack([image[..., 0], 2 * np.sqrt(np.square(gradient).sum(0))], axis=-1)
    np.testing.assert_allclose(with_edges(jnp.asarray(image)), expected, atol=2e-3)  # that of the small number is 0.002
    flat = jax.grad(lambda image: with_edges(image).sum())(jnp.ones((1, *shape, 1)))
    assert np.isfinite(flat).all()


@pytest.mark.parametrize("shape", [(20, 24), (12, 14, 10)])
def test_less_elastic_smoothing_lets_a_dense_field_grow_rougher(shape):
    fixed, moving = jnp.asarray(np.random.default_rng(0).random((2, 1, *shape, 1)), jnp.float32)
    zero = jnp.zeros((1, *shape, len(shape)))

    def roughness(total_sigma):
        refined = refine(
            make_objective("mse"), fixed, moving, zero, num_steps=20, field="dense", levels=((1, 1),), update_sigma=1.0,
            total_sigma=total_sigma,
        )  # fmt: skip
        return sum(float(jnp.mean(jnp.square(jnp.diff(refined, axis=axis)))) for axis in range(1, len(shape) + 1))

    smooth, usual, rough = map(roughness, (1.0, 0.5, 0.0))
    assert 0 < smooth < usual < rough
