"""Affine maps, Gaussian smoothing and affine registration, against NumPy, SciPy and transforms that are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
from scipy.spatial.transform import Rotation

from air_jax.losses import mse_loss, ncc_loss
from air_jax.optimize import AFFINES, register_affine
from air_jax.optimize import affine as module
from air_jax.transforms import (
    apply_affine,
    between_grids,
    compose_affine,
    identity_grid,
    invert_affine,
    resize,
    sample,
    smooth,
)
from air_jax.transforms.spaces import voxel_matrix


def square(matrix):
    """`[..., N, N + 1]` with the row 0 ... 0 1 below."""
    matrix = np.asarray(matrix, np.float64)
    last = np.broadcast_to(np.eye(matrix.shape[-1])[-1], (*matrix.shape[:-2], 1, matrix.shape[-1]))
    return np.concatenate([matrix, last], axis=-2)


def matrices(batch, num_axes):
    noise = np.random.default_rng(num_axes).standard_normal((2, batch, num_axes, num_axes + 1))
    noise[..., -1] *= 20
    return (noise * 0.3 + np.eye(num_axes, num_axes + 1)).astype(np.float32)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_maps_of_points_are_those_of_homogeneous_matrices(num_axes):
    outer, inner = matrices(3, num_axes)
    points = np.random.default_rng(0).uniform(-100, 200, (3, 5, *(4,) * (num_axes - 1), num_axes)).astype(np.float32)
    homogeneous = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1).astype(np.float64)
    expected = np.einsum("bij,b...j->b...i", square(inner), homogeneous)[..., :-1]
    np.testing.assert_allclose(apply_affine(inner, points), expected, atol=2e-4)
    np.testing.assert_allclose(square(compose_affine(outer, inner)), square(outer) @ square(inner), atol=1e-5)
    np.testing.assert_allclose(square(invert_affine(inner)), np.linalg.inv(square(inner)), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        apply_affine(jnp.broadcast_to(jnp.eye(num_axes, num_axes + 1), (3, num_axes, num_axes + 1)), points), points
    )


@pytest.mark.parametrize(("old", "new"), [((24, 17), (12, 9)), ((9, 14, 10), (18, 14, 3))])
def test_between_grids_keeps_the_edges_and_is_the_way_of_resize(old, new):
    matrix = between_grids(old, new)
    # The centre of cell i of the new grid lies at (i + 0.5) / new of the extent.
    index = np.stack(np.meshgrid(*map(np.arange, new), indexing="ij"), axis=-1)
    expected = (index + 0.5) * np.divide(old, new) - 0.5
    points = apply_affine(matrix[None], identity_grid(new)[None])[0]
    np.testing.assert_allclose(points, expected, atol=1e-5)

    # Resizing the displacement that leads everywhere to one physical point says the same about both grids, but for the
    # antialiasing of a ramp whose samples do not lie symmetrically.
    target = np.array(old) / 3
    there = jnp.asarray(target - np.stack(np.indices(old), axis=-1), jnp.float32)
    resized = np.asarray(resize(there[None], new)[0])
    inner = (slice(2, -2),) * len(new) if min(new) > 4 else (slice(1, -1),) * len(new)
    on_new_grid = np.asarray(apply_affine(invert_affine(matrix)[None], jnp.asarray(target[None, None], jnp.float32)))
    np.testing.assert_allclose((index + resized)[inner], np.broadcast_to(on_new_grid, index.shape)[inner], atol=0.05)


@pytest.mark.parametrize(
    ("shape", "sigma"), [((21, 16), 1.3), ((21, 5), (0.0, 4.0)), ((9, 12, 10), (2.0, 0.7, 1.0)), ((7, 7, 1), 3)]
)
def test_smoothing_is_scipys(shape, sigma):
    field = np.random.default_rng(0).standard_normal((2, *shape, 3)).astype(np.float32)
    sigmas = (sigma,) * len(shape) if np.isscalar(sigma) else sigma
    expected = scipy.ndimage.gaussian_filter(
        field.astype(np.float64),
        (0, *sigmas, 0),
        mode="nearest",
        radius=(0, *(int(np.ceil(3 * each)) for each in sigmas), 0),
    )
    np.testing.assert_allclose(smooth(field, sigma), expected, atol=2e-6)
    constant = jnp.full((1, *shape, 1), 7.0)
    np.testing.assert_allclose(smooth(constant, sigma), constant, rtol=1e-6)


# ---- Registration ----------------------------------------------------------------------------------------------------

# The grids of the fixed and the moving image: how many voxels of what size.
GRIDS = {
    2: (((48, 40), (1.0, 1.2)), ((52, 56), (0.9, 1.1))),
    3: (((24, 28, 18), (1.0, 0.9, 1.6)), ((30, 20, 26), (0.8, 1.3, 1.2))),
}
CENTRES = {
    2: [(14, 12), (33, 14), (24, 27), (15, 36), (35, 33)],
    3: [(7, 8, 8), (17, 9, 20), (12, 17, 12), (8, 18, 22), (16, 19, 7)],
}
STRETCH = {
    2: np.array([[1.06, 0.04], [-0.02, 0.95]]),
    3: np.array([[1.05, 0.03, 0], [0, 0.96, 0.02], [0, 0.02, 1.03]]),
}


def scene(points, centres, width=2.6):
    """Smooth blobs of different brightness, in mm: `[..., N]` to `[...]`."""
    return sum(
        (0.5 + 0.12 * number) * np.exp(-((points - np.asarray(centre)) ** 2).sum(axis=-1) / (2 * width**2))
        for number, centre in enumerate(centres)
    )


def physical(shape, affine):
    return np.stack(np.indices(shape), axis=-1) @ affine[:-1, :-1].T + affine[:-1, -1]


def about(centre, linear, translation):
    """The map `[N + 1, N + 1]` of points in mm."""
    result = np.eye(len(centre) + 1)
    result[:-1, :-1], result[:-1, -1] = linear, centre - linear @ centre + translation
    return result


def make_pair(num_axes, linear=None, translation=(1.5, -2.0, 1.0), far=0.0):
    """A fixed and a moving image `[1, *S, 1]`, what the headers say, the truth, and both voxel sizes."""
    (shape, size), (moving_shape, moving_size) = GRIDS[num_axes]
    fixed_affine, moving_affine = np.diag([*size, 1.0]), np.diag([*moving_size, 1.0])
    middle = (np.array(shape) - 1) / 2 * size
    # Both grids have their middle at one place, but for `far`.
    moving_affine[:-1, -1] = middle - (np.array(moving_shape) - 1) / 2 * moving_size
    linear = np.eye(num_axes) if linear is None else linear
    motion = about(middle, linear, np.array(translation[:num_axes]))
    back = np.linalg.inv(motion)
    centres = CENTRES[num_axes]
    fixed = scene(physical(shape, fixed_affine), centres)
    there = physical(moving_shape, moving_affine) @ back[:-1, :-1].T + back[:-1, -1]
    moving = scene(there, centres)
    shift = np.eye(num_axes + 1)
    shift[:-1, -1] = far
    header = voxel_matrix(fixed_affine, shift @ moving_affine)
    truth = voxel_matrix(motion @ fixed_affine, moving_affine)
    images = (image.astype(np.float32)[None, ..., None] for image in (fixed, moving))
    return *images, header, truth, size, moving_size


def corner_error(matrix, truth, shape):
    """The largest distance in moving voxels between where both maps take the corners of the fixed image."""
    corners = np.array(list(itertools.product(*((0, length - 1) for length in shape))))
    difference = np.asarray(matrix, np.float64) - truth
    return np.abs(corners @ difference[:, :-1].T + difference[:, -1]).max()


def rotation(num_axes, degrees=9):
    return (
        Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.4, -0.5, 0.77])).as_matrix()
        if num_axes == 3
        else (Rotation.from_rotvec([0, 0, np.deg2rad(degrees)]).as_matrix()[:2, :2])
    )


ANGLES = tuple(np.deg2rad([0, -45, 45]))  # the same everywhere, so that less is compiled


def register(pair, **options):
    fixed, moving, header, _, size, moving_size = pair
    matrix = register_affine(
        ncc_loss,
        fixed,
        moving,
        angles=ANGLES,
        matrix=jnp.asarray(header, jnp.float32)[None],
        voxel_size=size,
        moving_voxel_size=moving_size,
        **options,
    )
    return np.asarray(matrix[0], np.float64)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_known_affine_map_is_recovered_on_a_grid_of_another_kind(num_axes):
    pair = make_pair(num_axes, rotation(num_axes) @ STRETCH[num_axes])
    fixed, _, header, truth = pair[:4]
    assert corner_error(header, truth, fixed.shape[1:-1]) > 4
    matrix = register(pair)
    assert corner_error(matrix, truth, fixed.shape[1:-1]) < 0.5
    # A black and a white background tell the same.
    white = (1 - pair[0], 1 - pair[1], *pair[2:])
    assert corner_error(register(white), truth, fixed.shape[1:-1]) < 0.5


@pytest.mark.parametrize(("num_axes", "kind"), [*((2, kind) for kind in AFFINES), (3, "rigid"), (3, "affine")])
def test_each_kind_keeps_its_freedom(num_axes, kind):
    """On a map that has more freedom than the kind allows; the linear part is looked at in mm."""
    pair = make_pair(num_axes, rotation(num_axes) @ STRETCH[num_axes] * 1.08)
    header, _, size, moving_size = pair[2:]
    matrix = register(pair, kind=kind)
    linear = np.diag(moving_size) @ matrix[:, :-1] @ np.diag(1 / np.array(size))
    gram = linear.T @ linear
    identity = np.eye(num_axes)
    assert np.linalg.det(linear) > 0
    if kind == "translation":
        np.testing.assert_allclose(linear, identity, atol=1e-5)
    elif kind == "rigid":
        np.testing.assert_allclose(gram, identity, atol=1e-5)
        assert np.abs(linear - identity).max() > 0.02
    elif kind == "similarity":
        scale = np.trace(gram) / num_axes
        assert scale > 1.02
        np.testing.assert_allclose(gram, scale * identity, atol=1e-5)
    else:
        assert np.abs(gram - np.trace(gram) / num_axes * identity).max() > 0.02
    fixed, moving = pair[:2]

    def value(matrix):
        points = apply_affine(jnp.asarray(matrix, jnp.float32)[None], identity_grid(fixed.shape[1:-1])[None])
        return float(mse_loss(fixed, sample(moving, points, mode="nearest"))[0])

    assert value(matrix) < 0.8 * value(header)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_images_that_do_not_overlap_by_their_headers_come_together(num_axes):
    pair = make_pair(num_axes, rotation(num_axes), far=500.0)
    fixed, _, header, truth = pair[:4]
    assert corner_error(header, truth, fixed.shape[1:-1]) > 300
    assert corner_error(register(pair, kind="rigid"), truth, fixed.shape[1:-1]) < 0.5


def test_a_picture_turned_far_is_found_from_one_of_the_angles():
    pair = make_pair(2, rotation(2, 50))
    fixed, truth = pair[0], pair[3]
    assert corner_error(register(pair, kind="rigid"), truth, fixed.shape[1:-1]) < 0.5


def test_pairs_do_not_see_each_other():
    pair = make_pair(2, rotation(2))
    fixed, moving = pair[:2]
    noise = np.random.default_rng(0).random((2, *fixed.shape[1:]), dtype=np.float32)
    other = np.random.default_rng(1).random((2, *moving.shape[1:]), dtype=np.float32)
    together = register_affine(
        ncc_loss,
        np.concatenate([noise, fixed]),
        np.concatenate([other, moving]),
        kind="rigid",
        angles=ANGLES,
        matrix=jnp.asarray(np.stack([pair[2]] * 3), jnp.float32),
        voxel_size=pair[4],
        moving_voxel_size=pair[5],
    )
    np.testing.assert_allclose(together[2], register(pair, kind="rigid"), atol=2e-3)


def test_an_unknown_kind_is_refused():
    image = np.zeros((1, 8, 8, 1), np.float32)
    with pytest.raises(ValueError, match="kind is 'bent'; it must be one of translation, rigid, similarity, affine"):
        register_affine(mse_loss, image, image, kind="bent")


@pytest.mark.parametrize("num_axes", [2, 3])
def test_the_gradient_is_that_of_finite_differences_in_64_bits(num_axes):
    """The whole way from parameters to the loss, written again in NumPy and SciPy."""
    fixed, moving, header, _, size, _ = make_pair(num_axes)
    shape = fixed.shape[1:-1]
    rng = np.random.default_rng(0)
    count = num_axes * (num_axes - 1) // 2
    vector = rng.uniform(-0.1, 0.1, num_axes + count + num_axes**2)

    def split(vector):
        return vector[:num_axes], vector[num_axes : num_axes + count], vector[num_axes + count :]

    def reference(vector):
        translation, angles, stretch = split(vector)
        stretch = stretch.reshape(num_axes, num_axes)
        skew = np.zeros((num_axes, num_axes))
        skew[np.triu_indices(num_axes, 1)] = angles
        linear = scipy.linalg.expm(skew - skew.T) @ (np.eye(num_axes) + (stretch + stretch.T) / 2)
        centre = (np.array(shape) - 1) / 2
        half = (np.array(shape) * size).max() / 2
        points = (np.indices(shape).reshape(num_axes, -1).T - centre) * size
        points = (points @ linear.T + half * translation) / size + centre
        points = points @ header[:, :-1].T + header[:, -1]
        warped = scipy.ndimage.map_coordinates(moving[0, ..., 0].astype(np.float64), points.T, order=1, mode="nearest")
        return np.mean((warped - fixed[0, ..., 0].ravel()) ** 2)

    def loss(vector):
        translation, angles, stretch = split(vector)
        parameters = module._Parameters(translation[None], angles[None], stretch.reshape(1, num_axes, num_axes))
        matrix = module._to_matrix(parameters, shape, size)
        total = compose_affine(jnp.asarray(header, jnp.float32)[None], matrix)
        points = apply_affine(total, identity_grid(shape)[None])
        return mse_loss(fixed, sample(moving, points, mode="nearest"))[0]

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(vector, jnp.float32))
    np.testing.assert_allclose(value, reference(vector), rtol=1e-4)
    steps = 1e-6 * np.eye(len(vector))
    expected = [(reference(vector + step) - reference(vector - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    # Zero, where every registration starts, is no corner of the rotation's formula.
    assert np.isfinite(jax.grad(loss)(jnp.zeros(len(vector)))).all()
