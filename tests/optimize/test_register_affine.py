"""Affine registration: known maps are recovered, gradients agree with NumPy and SciPy in 64 bits."""

import itertools
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
from scipy.spatial.transform import Rotation

from air_jax.errors import OptionError
from air_jax.losses import SIMILARITIES
from air_jax.optimize import AFFINES, Geometry, register_affine
from air_jax.optimize import affine as module
from air_jax.transforms import apply_affine, compose_affine, identity_grid, sample
from air_jax.transforms.spaces import voxel_matrix

mse, ncc = SIMILARITIES["mse"], SIMILARITIES["ncc"]

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


def make_pair(num_axes, linear=None, translation=(1.5, -2.0, 1.0), far=0.0, beside=0.0):
    """Makes two images `[1, *S, 1]`; returns them, `voxel_to_voxel`, the true matrix, and both voxel sizes.

    By their headers the images are `far` mm further apart than they are.
    """
    (shape, size), (moving_shape, moving_size) = GRIDS[num_axes]
    fixed_affine, moving_affine = np.diag([*size, 1.0]), np.diag([*moving_size, 1.0])
    middle = (np.array(shape) - 1) / 2 * size
    # Both grids have the same centre; the moving one may show what lies beside it, along the last axis.
    moving_affine[:-1, -1] = middle - (np.array(moving_shape) - 1) / 2 * moving_size
    moving_affine[num_axes - 1, -1] += beside
    linear = np.eye(num_axes) if linear is None else linear
    motion = about(middle, linear, np.array(translation[:num_axes]))
    back = np.linalg.inv(motion)
    centres = CENTRES[num_axes]
    fixed = scene(physical(shape, fixed_affine), centres)
    there = physical(moving_shape, moving_affine) @ back[:-1, :-1].T + back[:-1, -1]
    moving = scene(there, centres)
    shift = np.eye(num_axes + 1)
    shift[:-1, -1] = far
    voxel_to_voxel = voxel_matrix(fixed_affine, shift @ moving_affine)
    truth = voxel_matrix(motion @ fixed_affine, moving_affine)
    images = (image.astype(np.float32)[None, ..., None] for image in (fixed, moving))
    return *images, voxel_to_voxel, truth, size, moving_size


def corner_error(matrix, truth, shape):
    """Largest distance, in moving voxels, between both maps of the corners of the fixed image."""
    corners = np.array(list(itertools.product(*((0, length - 1) for length in shape))))
    difference = np.asarray(matrix, np.float64) - truth
    return np.abs(corners @ difference[:, :-1].T + difference[:, -1]).max()


def rotation(num_axes, degrees=9):
    return (
        Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.4, -0.5, 0.77])).as_matrix()
        if num_axes == 3
        else (Rotation.from_rotvec([0, 0, np.deg2rad(degrees)]).as_matrix()[:2, :2])
    )


# Each level is compiled: the program of an affine without weights has all of them, the others have these two.
TWO_LEVELS = (module.LEVELS[0], module.LEVELS[-1])


def coarse_contrast(fixed, warped, weights):
    """The difference is rewarded on the coarse level; on the last one all is the same."""
    return -mse(fixed, warped, weights=weights) * (fixed.shape[1] < 10)


# One program for several similarities: the number of one is an argument.
SEVERAL = {"ncc": ncc, "coarse contrast": coarse_contrast}


def choose(number, fixed, warped, weights):
    return jax.lax.switch(number, [partial(each, weights=weights) for each in SEVERAL.values()], fixed, warped)


def register(*pairs, similarity=ncc, **options):
    """Registers pairs on the same grids together: their matrices `[B, N, N + 1]`."""
    fixed, moving = (np.concatenate([pair[image] for pair in pairs]) for image in range(2))
    matrix = jnp.asarray(np.stack([pair[2] for pair in pairs]), jnp.float32)
    geometry = Geometry(matrix, *pairs[0][4:])
    return np.asarray(register_affine(similarity, fixed, moving, turned=fixed.ndim == 4, geometry=geometry, **options))


def register_weighted(pair, similarity="ncc", *, weights=None, moving_weights=None):
    """Registers one pair by any of `SEVERAL`: its matrix."""
    number = np.int32(list(SEVERAL).index(similarity))
    weights, moving_weights = (
        np.ones(image.shape[:-1], np.float32) if given is None else given
        for image, given in zip(pair[:2], (weights, moving_weights), strict=True)
    )
    options = {"weights": weights, "moving_weights": moving_weights}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEVELS", TWO_LEVELS)
        return register(pair, similarity=jax.tree_util.Partial(choose, number), **options)[0]


def register_rigid(*pairs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEVELS", TWO_LEVELS)
        return register(*pairs, kind="rigid")


@cache
def rigid(num_axes):
    """Registers several pairs rigidly, in one program: name to pair and matrix."""
    pairs = {
        "stretched": make_pair(num_axes, rotation(num_axes) @ STRETCH[num_axes] * 1.08),
        "far apart": make_pair(num_axes, rotation(num_axes), far=500.0),
    }
    if num_axes == 2:
        pairs["turned by 50 degrees"] = make_pair(2, rotation(2, 50))
    matrices = register_rigid(*pairs.values())
    return {name: (pair, matrix) for (name, pair), matrix in zip(pairs.items(), matrices, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("num_axes", [2, 3])
def test_known_affine_is_recovered_between_different_grids(num_axes):
    pair = make_pair(num_axes, rotation(num_axes) @ STRETCH[num_axes])
    fixed, _, voxel_to_voxel, truth = pair[:4]
    assert corner_error(voxel_to_voxel, truth, fixed.shape[1:-1]) > 4
    # With a white background as well.
    for each in (pair, (1 - pair[0], 1 - pair[1], *pair[2:])):
        assert corner_error(register(each)[0], truth, fixed.shape[1:-1]) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("num_axes", "kind"), [*((2, kind) for kind in AFFINES), (3, "rigid"), (3, "affine")])
def test_each_kind_changes_only_its_free_parameters(num_axes, kind):
    """The true map has more free parameters than the kind. The linear part is compared in mm."""
    pair = make_pair(num_axes, rotation(num_axes) @ STRETCH[num_axes] * 1.08)
    fixed, moving, voxel_to_voxel, _, size, moving_size = pair
    matrix = rigid(num_axes)["stretched"][1] if kind == "rigid" else register(pair, kind=kind)[0]
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

    def value(matrix):
        points = np.einsum("ij,j...->i...", matrix[:, :-1], np.indices(fixed.shape[1:-1])).T + matrix[:, -1]
        warped = scipy.ndimage.map_coordinates(moving[0, ..., 0], points.T, order=1, mode="nearest")
        return np.mean((warped - fixed[0, ..., 0]) ** 2)

    assert value(matrix) < 0.8 * value(voxel_to_voxel)


@pytest.mark.slow
@pytest.mark.parametrize("num_axes", [2, 3])
def test_images_far_apart_by_their_headers_are_aligned(num_axes):
    (fixed, _, voxel_to_voxel, truth, *_), matrix = rigid(num_axes)["far apart"]
    assert corner_error(voxel_to_voxel, truth, fixed.shape[1:-1]) > 300
    assert corner_error(matrix, truth, fixed.shape[1:-1]) < 0.5


@pytest.mark.slow
def test_large_rotation_is_recovered_from_one_of_the_turns():
    (fixed, _, _, truth, *_), matrix = rigid(2)["turned by 50 degrees"]
    assert corner_error(matrix, truth, fixed.shape[1:-1]) < 0.5


@pytest.mark.slow
def test_pairs_are_independent():
    """Pairs of noise take the places of the others."""
    pair, matrix = rigid(2)["turned by 50 degrees"]
    rng = np.random.default_rng(0)
    noise = [tuple(rng.random(image.shape, np.float32) for image in pair[:2]) + pair[2:] for _ in range(2)]
    np.testing.assert_allclose(register_rigid(*noise, pair)[2], matrix, atol=2e-3)


def test_wrong_options_are_refused():
    image = np.zeros((1, 8, 8, 1), np.float32)
    with pytest.raises(OptionError, match="kind='bent': must be one of translation, rigid, similarity, affine"):
        register_affine(mse, image, image, kind="bent")
    with pytest.raises(
        ValueError, match=r"geometry\.matrix has shape \(2, 3\); for these images it must be \(1, 2, 3\)"
    ):
        register_affine(mse, image, image, geometry=Geometry(jnp.eye(2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("num_axes", [2, 3])
def test_gradient_agrees_with_finite_differences_in_64_bits(num_axes):
    """The reference computes the loss of the parameters in NumPy and SciPy."""
    fixed, moving, voxel_to_voxel, _, size, _ = make_pair(num_axes)
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
        points = points @ voxel_to_voxel[:, :-1].T + voxel_to_voxel[:, -1]
        warped = scipy.ndimage.map_coordinates(moving[0, ..., 0].astype(np.float64), points.T, order=1, mode="nearest")
        return np.mean((warped - fixed[0, ..., 0].ravel()) ** 2)

    def loss(vector):
        translation, angles, stretch = split(vector)
        parameters = module.Parameters(translation[None], angles[None], stretch.reshape(1, num_axes, num_axes))
        matrix = module.to_matrix(parameters, shape, size, (1.0,) * num_axes)
        total = compose_affine(jnp.asarray(voxel_to_voxel, jnp.float32)[None], matrix)
        points = apply_affine(total, identity_grid(shape)[None])
        return mse(fixed, sample(moving, points, mode="nearest"))[0]

    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    value, gradient = value_and_gradient(np.float32(vector))
    np.testing.assert_allclose(value, reference(vector), rtol=1e-4)
    steps = 1e-6 * np.eye(len(vector))
    expected = [(reference(vector + step) - reference(vector - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())
    # Every registration starts at zero: the gradient of the rotation is finite there.
    assert np.isfinite(value_and_gradient(np.zeros(len(vector), np.float32))[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("num_axes", [2, 3])
def test_what_does_not_count_has_no_influence_on_the_affine(num_axes):
    fixed, moving, *others = make_pair(num_axes, rotation(num_axes))
    weights, moving_weights = (np.ones(image.shape[:-1], np.float32) for image in (fixed, moving))
    weights[:, -3:], moving_weights[:, :4] = 0, 0

    def register_with(garbage):
        hidden, moving_hidden = (array[..., None] == 0 for array in (weights, moving_weights))
        images = np.where(hidden, garbage, fixed), np.where(moving_hidden, garbage, moving)
        return register_weighted((*images, *others), weights=weights, moving_weights=moving_weights)

    clean = register_with(0.0)
    assert corner_error(clean, others[1], fixed.shape[1:-1]) < 0.7
    np.testing.assert_array_equal(register_with(np.nan), clean)
    np.testing.assert_array_equal(register_with(8.0), clean)


@pytest.mark.slow
def test_images_that_show_different_parts_are_aligned():
    """Half of the moving image shows what lies beside; its border values, continued, would lead astray."""
    pair = make_pair(2, rotation(2), beside=-24.0)
    assert corner_error(register_weighted(pair), pair[3], pair[0].shape[1:-1]) < 0.7


@pytest.mark.slow
def test_leaving_the_view_is_not_rewarded():
    """Unrelated noise in blocks that overlap in part: the fewer voxels are compared, the higher they correlate."""
    rng = np.random.default_rng(0)
    fixed, moving, *others = make_pair(2, beside=-20.0)
    noise = (rng.random(image.shape, np.float32) for image in (fixed, moving))
    weights, moving_weights = (np.zeros(image.shape[:-1], np.float32) for image in (fixed, moving))
    weights[:, 12:36, 8:32], moving_weights[:, 12:39, 15:37] = 1, 1
    matrix = register_weighted((*noise, *others), weights=weights, moving_weights=moving_weights)
    points = np.stack(np.indices(fixed.shape[1:-1]), axis=-1)[weights[0] > 0] @ matrix[:, :2].T + matrix[:, 2]
    seen = np.all((points >= [12, 15]) & (points <= [38, 36]), axis=-1)
    assert seen.mean() > module.LEAST_COVERAGE - 0.1


@pytest.mark.slow
def test_an_affine_that_is_no_better_is_the_start():
    """The coarse level moves the images; the last one finds no gain in it."""
    pair = make_pair(2)
    np.testing.assert_array_equal(register_weighted(pair, "coarse contrast"), np.float32(pair[2]))


@pytest.mark.slow
@pytest.mark.thorough
def test_the_derivative_of_an_affine_needs_hardly_more_memory():
    """The steps are computed again: kept, they would take 30 times the memory."""
    image = jnp.zeros((1, 64, 64, 1))

    def value(fixed):
        return jnp.sum(register_affine(mse, fixed, image, kind="translation"))

    needed, limit = (
        jax.jit(function).lower(image).compile().memory_analysis().temp_size_in_bytes
        for function in (jax.grad(value), value)
    )
    assert needed < 4 * limit
