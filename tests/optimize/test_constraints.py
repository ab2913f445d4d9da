"""Constraints: bodies that stay rigid, regions that keep their volume, axes without movement."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from air_jax import warp
from air_jax.errors import OptionError
from air_jax.losses import make_objective
from air_jax.optimize import Constraints, DenseField, Geometry, refine, satisfy
from air_jax.optimize.affine_parameters import Parameters, to_matrix
from air_jax.optimize.rigid import BLEND, MARGIN, blend_weights
from air_jax.transforms import corner_jacobian_determinant

SIZES = {2: (1.0, 1.5), 3: (1.0, 1.5, 2.0)}
SHAPES = {2: (44, 36), 3: (25, 19, 17)}
MSE, FIELD = make_objective("mse"), DenseField(levels=(1,))


def rough(num_axes, largest=2.0, seed=0):
    """A smooth random displacement `[1, *S, N]` with components of at most `largest` voxels."""
    noise = np.random.default_rng(seed).standard_normal((1, *SHAPES[num_axes], num_axes))
    field = gaussian_filter(noise, (0, *(4,) * num_axes, 0))
    return (largest * field / np.abs(field).max()).astype(np.float32)


def ball(num_axes, centre, radius):
    """`[*S]` booleans: closer to a point than a radius, in voxels."""
    grid = np.stack(np.indices(SHAPES[num_axes]), axis=-1)
    return np.linalg.norm(grid - np.array(centre), axis=-1) < radius


def scaled(num_axes, factors):
    """An affine `[1, N, N + 1]` that scales each axis."""
    return np.concatenate([np.diag(factors), np.full((num_axes, 1), 0.7)], axis=1)[None].astype(np.float32)


def determinants(displacement):
    """Jacobian determinants of `id + u` at interior voxels, by NumPy's central differences."""
    field = np.asarray(displacement, np.float64)[0]
    num_axes = field.shape[-1]
    gradient = np.stack(np.gradient(field, axis=tuple(range(num_axes))), axis=-1) + np.eye(num_axes)
    return np.linalg.det(gradient)[(slice(1, -1),) * num_axes]


@pytest.mark.slow
@pytest.mark.parametrize("num_axes", [2, 3])
def test_bodies_are_rigid_in_lengths_and_the_rest_moves_on(num_axes):
    start, sizes = rough(num_axes), SIZES[num_axes]
    bodies = [ball(num_axes, (9, *(10,) * (num_axes - 1)), 4), ball(num_axes, (19, *(10,) * (num_axes - 1)), 3.5)]
    # The affine mirrors the first axis and makes all longer; the bodies must not follow the latter.
    matrix = scaled(num_axes, [-1.08] + [1.08] * (num_axes - 1))
    geometry = Geometry(jnp.asarray(matrix), voxel_size=sizes, moving_voxel_size=sizes)
    regions = np.stack(bodies, axis=-1)[None]
    result = np.asarray(satisfy(Constraints(rigid_regions=regions), start, geometry=geometry))
    grid = np.stack(np.indices(SHAPES[num_axes]), axis=-1)
    for body in bodies:
        moved = (grid + result[0])[body] @ matrix[0, :, :-1].T + matrix[0, :, -1]
        np.testing.assert_allclose(pdist(moved * sizes), pdist(grid[body] * sizes), atol=1e-3)
    assert float(corner_jacobian_determinant(jnp.asarray(result)).min()) > 0
    far = distance_transform_edt(~(bodies[0] | bodies[1]), sizes) > BLEND + MARGIN
    np.testing.assert_array_equal(result[0][far], start[0][far])


def test_the_motion_is_the_closest_one():
    start, sizes, body = rough(3), SIZES[3], ball(3, (12, 11, 10), 4)
    result = np.asarray(
        satisfy(Constraints(rigid_regions=body[None, ..., None]), start, geometry=Geometry(voxel_size=sizes))
    )
    points = np.argwhere(body).astype(float)
    here, there = points * sizes, (points + start[0][body]) * sizes
    here, middle = here - here.mean(axis=0), there.mean(axis=0)
    expected = Rotation.align_vectors(there - middle, here)[0].apply(here) + middle
    np.testing.assert_allclose((points + result[0][body]) * sizes, expected, atol=2e-4)


def test_the_blend_falls_with_the_distance():
    body, sizes = ball(2, (20, 15), 5), SIZES[2]
    near = np.clip(1 - (distance_transform_edt(~body, sizes) - MARGIN) / BLEND, 0, 1)
    weights = np.asarray(blend_weights(jnp.asarray(body[None, ..., None]), sizes))[0, ..., 0]
    np.testing.assert_allclose(weights, near * near * (3 - 2 * near), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("num_axes", [2, 3])
def test_volumes_are_kept(num_axes):
    start, region = rough(num_axes), ball(num_axes, [size / 2 for size in SHAPES[num_axes]], 5)
    factors = [1.1] * num_axes
    geometry = Geometry(jnp.asarray(scaled(num_axes, factors)), voxel_size=SIZES[num_axes])
    inner = region[(slice(1, -1),) * num_axes]
    result = satisfy(Constraints(keep_volume=region[None]), start, geometry=geometry)
    before, after = (np.prod(factors) * determinants(field)[inner] for field in (start, result))
    assert np.abs(before - 1).max() > 0.2
    assert np.abs(after - 1).max() < 0.01
    assert determinants(result).min() > 0


def test_volumes_of_a_pair_do_not_depend_on_the_others():
    """A rough field beside a smooth one, whose last steps the rough one took part in."""
    region = jnp.asarray(np.repeat(ball(2, [size / 2 for size in SHAPES[2]], 5)[None], 2, axis=0))
    starts = jnp.concatenate([0.3 * rough(2), rough(2)])
    both = satisfy(Constraints(keep_volume=region), starts)
    for pair in range(2):
        alone = satisfy(Constraints(keep_volume=region[:1]), starts[pair : pair + 1])
        np.testing.assert_allclose(both[pair], alone[0], atol=2e-5)


def test_no_regions_leave_the_displacement():
    start = rough(2)
    np.testing.assert_array_equal(satisfy(Constraints(), start), start)


@pytest.mark.slow
def test_refinement_meets_all_constraints_together():
    num_axes = 2  # 3-D: tests/file_registration/test_guided_files.py
    fixed = gaussian_filter(np.random.default_rng(1).random((1, *SHAPES[num_axes], 1)), (0, *(2,) * num_axes, 0))
    fixed = ((fixed - fixed.min()) / np.ptp(fixed)).astype(np.float32)
    moving = np.asarray(warp(fixed, jnp.asarray(rough(num_axes, seed=2)), mode="nearest"))
    body = ball(num_axes, (8, *(9,) * (num_axes - 1)), 3)
    kept = ball(num_axes, [0.65 * size for size in SHAPES[num_axes]], 4)
    free = (1,) * (num_axes - 1) + (0,)
    constraints = Constraints(free, body[None, ..., None], kept[None])
    solution = refine(MSE, fixed, moving, num_steps=9, field=FIELD, constraints=constraints)
    displacement = np.asarray(solution.displacement)
    np.testing.assert_array_equal(displacement[..., -1], 0)
    assert np.abs(displacement[..., :-1]).max() > 0.5
    points = np.argwhere(body)
    np.testing.assert_allclose(pdist(points + displacement[0][body]), pdist(points), atol=1e-3)
    assert np.abs(determinants(displacement)[kept[(slice(1, -1),) * num_axes]] - 1).max() < 0.01
    free_loss = np.square(fixed - np.asarray(warp(moving, solution.displacement, mode="nearest"))).mean()
    assert free_loss < 0.8 * np.square(fixed - moving).mean()


def test_components_of_the_start_stay_along_restricted_axes():
    fixed, start = np.random.default_rng(3).random((1, 20, 18, 1), np.float32), np.full((1, 20, 18, 2), 0.5, np.float32)
    start[..., 1] = np.linspace(0, 1, 18)
    options = {"num_steps": 3, "field": FIELD, "constraints": Constraints((1, 0))}
    displacement = refine(MSE, fixed, np.roll(fixed, 2, 1), start, **options).displacement
    np.testing.assert_array_equal(displacement[..., 1], start[..., 1])
    assert np.abs(displacement[..., 0] - 0.5).max() > 0.1


@pytest.mark.parametrize(("restrict", "turns"), [((1, 0, 1), [0, 2]), ((0, 0, 1), [])])
def test_rotations_are_in_the_plane_of_the_free_axes(restrict, turns):
    """In millimetres the map turns two axes and leaves the third; with one free axis it only moves."""
    parameters = Parameters(jnp.full((1, 3), 0.1), jnp.full((1, 3), 0.4), jnp.zeros((1, 3, 3)))
    size = np.array([1.0, 2.0, 3.0])
    matrix = np.asarray(to_matrix(parameters, (9, 8, 7), tuple(size), restrict))[0]
    linear = matrix[:, :-1] * size[:, None] / size
    expected = np.eye(3)
    if turns:
        expected[np.ix_(turns, turns)] = [[np.cos(0.4), np.sin(0.4)], [-np.sin(0.4), np.cos(0.4)]]
    np.testing.assert_allclose(linear, expected, atol=1e-6)


IMAGE = np.zeros((1, 8, 9, 1), np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constraints((1, 0.5)), r"restrict=\(1, 0.5\): must be 1 for axes that are free and 0"),
        (lambda: Constraints((1, float("nan"))), "must be 1 for axes that are free and 0"),
        (lambda: Constraints((0, 0)), "leaves no axis free"),
        (lambda: Constraints((1, 1, 0)), "must have 2 numbers, one an axis"),
        (lambda: Constraints(rigid_regions=np.ones((1, 8, 9))), r"shape \(1, 8, 9\).* and an axis of bodies"),
        (lambda: Constraints(keep_volume=np.ones((1, 8, 8))), r"keep_volume has shape \(1, 8, 8\)"),
        (lambda: Constraints(keep_volume=np.zeros((1, 8, 9))), "keep_volume is empty"),
        (lambda: Constraints(rigid_regions=np.eye(2)[0] * np.ones((1, 8, 9, 1))), "rigid_regions is empty"),
        (lambda: Constraints(keep_volume=np.full((1, 8, 9), np.nan)), "negative or not finite"),
        (lambda: Constraints(keep_volume=-np.ones((1, 8, 9))), "negative or not finite"),
    ],
)
def test_wrong_constraints_are_refused(make, message):
    with pytest.raises((OptionError, ValueError), match=message) as error:
        refine(MSE, IMAGE, IMAGE, num_steps=1, constraints=make())
    assert "\n" not in str(error.value)
