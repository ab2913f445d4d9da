"""Landmarks that guide: their cost by hand, and refinements and affines that follow them."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

import air_jax
from air_jax.errors import OptionError
from air_jax.losses import make_objective
from air_jax.optimize import (
    Constraints,
    DenseField,
    Geometry,
    Guidance,
    affine,
    affine_guide_loss,
    guide_loss,
    refine,
    register_affine,
)

MSE = make_objective("mse")


def texture(shape, seed=0):
    image = gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)[None, ..., None]


@pytest.mark.parametrize("num_axes", [2, 3])
def test_costs_are_those_computed_by_hand(num_axes):
    """One point 3 and 4 mm from its target, another on it; the tolerance is 1 mm, the smallest voxel 2 mm."""
    shape, sizes = (10, 12, 14)[:num_axes], (4.0, 2.0, 2.5)[:num_axes]
    moved = [3 / 4, 4 / 2, 0][:num_axes]
    fixed = np.array([[4, 5, 6][:num_axes], [2.5, 3, 3][:num_axes]])[None]
    guidance = Guidance(fixed, fixed + np.stack([moved, np.zeros(num_axes)]), weight=3.0, tolerance=1.0)
    cost = np.sqrt(1 + ((5 - 1) / 2) ** 2) - 1
    geometry = Geometry(jnp.eye(num_axes, num_axes + 1)[None], voxel_size=sizes)
    np.testing.assert_allclose(affine_guide_loss(guidance, geometry), [3 * cost / 2], rtol=1e-5)
    voxels = (2 * np.pi * 9) ** (num_axes / 2) / np.prod(shape)
    loss = guide_loss(guidance, jnp.zeros((1, *shape, num_axes)), geometry=Geometry(voxel_size=sizes))
    np.testing.assert_allclose(loss, [3 * voxels * cost], rtol=1e-5)
    # A displacement that leads the first point to its target, and the second one away by as much.
    loss = guide_loss(guidance, jnp.broadcast_to(jnp.asarray(moved), (1, *shape, num_axes)), geometry=geometry)
    np.testing.assert_allclose(loss, [3 * voxels * cost], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(40, 36), (20, 18, 16)])
def test_landmarks_pull_where_the_image_shows_nothing(shape):
    """The image is flat at one landmark; the other contradicts the image within the tolerance."""
    num_axes, sizes = len(shape), (1.0, 1.5, 2.0)[: len(shape)]
    fixed = texture(shape) * (np.indices(shape)[0] > shape[0] / 2)[None, ..., None]
    points = np.array([[0.2 * size for size in shape], [0.7 * size for size in shape]])[None]
    target = points + np.array([[2.0] + [0.0] * (num_axes - 1), [1.0] + [0.0] * (num_axes - 1)])
    guidance = Guidance(points, target, weight=2.0, tolerance=0.5)
    options = {"num_steps": 9, "field": DenseField(levels=(1,)), "geometry": Geometry(voxel_size=sizes)}
    displacement = np.asarray(refine(MSE, fixed, fixed, guidance=guidance, **options).displacement)[0]
    there = [map_coordinates(each, points[0].T, order=1) for each in np.moveaxis(displacement, -1, 0)]
    distance = np.linalg.norm((points[0] + np.transpose(there) - target[0]) * sizes, axis=-1)
    assert distance[0] < 0.75  # 2 mm before
    assert distance[1] < 1.0


@pytest.mark.slow
def test_an_affine_follows_landmarks_against_the_image(monkeypatch):
    """A texture that repeats itself every 8 voxels: the images cannot tell a shift of 8 from none.

    The landmarks also ask for a movement along the columns, which is not allowed.
    """
    monkeypatch.setattr(affine, "LEVELS", ((1, 0.02),))  # each level is compiled
    monkeypatch.setattr(affine, "NUM_FULL_STEPS", affine.NUM_STEPS)
    fixed = np.tile(texture((8, 8)), (1, 6, 6, 1))
    points = np.array([[[10, 10], [30, 12], [20, 34], [36, 30]]], float)
    guidance, constraints = Guidance(points, points + np.array([8, 3]), weight=1.0), Constraints((1, 0))
    matrix = register_affine(_mse, fixed, fixed, kind="affine", guidance=guidance, constraints=constraints)
    np.testing.assert_allclose(points[0] @ matrix[0, 0, :2] + matrix[0, 0, 2], points[0, :, 0] + 8, atol=0.5)
    np.testing.assert_array_equal(matrix[0, 1], [0, 1, 0])


def _mse(fixed, warped):
    return jnp.mean(jnp.square(fixed - warped), axis=(1, 2, 3))


@pytest.mark.slow
def test_register_images_takes_all_guides():
    """The affine fitted to landmarks in mm is the whole result without steps; both channels are compared."""
    fixed = np.stack([texture((24, 20))[0, ..., 0], 9 * texture((24, 20), 1)[0, ..., 0]], axis=-1)[None]
    points = np.array([[[4, 4], [18, 5], [10, 16]]], float)
    turn = np.array([[0, -1], [1, 0]])
    moved = ((points[0] * [1, 2] - [12, 20]) @ turn.T + [12, 20]) / [1, 2]
    guidance = Guidance(points, moved[None])
    result = air_jax.register_images(
        fixed,
        fixed,
        num_axes=2,
        spacing=(1, 2),
        affine="rigid",
        affine_from="landmarks",
        guidance=guidance,
        channel_weights=(1, 0.5),
        smoothness=2,
        regularizers={"bending": 0.1},
        similarity="mse",
        field=DenseField(levels=(1,)),
        refine_steps=0,
    )
    voxels = points[0].astype(int)
    found = voxels + np.asarray(result.displacement)[0][tuple(voxels.T)]
    np.testing.assert_allclose(found, moved, atol=1e-4)


POINTS = np.ones((1, 2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Guidance(POINTS, POINTS, weight=0), "weight=0: of landmarks must be finite and above 0"),
        (lambda: Guidance(POINTS, POINTS, weight=float("nan")), "weight=nan: of landmarks"),
        (lambda: Guidance(POINTS, POINTS, tolerance=-1), "tolerance=-1: of landmarks must be finite and not negative"),
        (lambda: Guidance(POINTS, POINTS[:, :1]), r"landmarks have shapes \(1, 2, 2\) and \(1, 1, 2\)"),
        (lambda: Guidance(POINTS[:, :0], POINTS[:, :0]), r"both must be \(1, K, 2\)"),
        (lambda: Guidance(np.ones((1, 2, 3)), np.ones((1, 2, 3))), r"both must be \(1, K, 2\)"),
        (lambda: Guidance(POINTS, POINTS * np.nan), "coordinates that are not finite"),
    ],
)
def test_wrong_landmarks_are_refused(make, message):
    image = np.zeros((1, 8, 8, 1), np.float32)
    with pytest.raises((OptionError, ValueError), match=message):
        refine(MSE, image, image, num_steps=1, guidance=make())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affine_from": "nope"}, "affine_from='nope': must be one of images, landmarks"),
        ({"affine_from": "landmarks"}, "needs guidance"),
        ({"smoothness": -1}, "smoothness=-1: must not be negative"),
        ({"channel_weights": (1, 2)}, r"channel_weights=\(1, 2\): must have 1 weight\(s\)"),
        ({"channel_weights": (1,)}, "needs images with channels"),
        ({"regularizers": {"nope": 1}}, "nope=1: no loss has this name"),
    ],
)
def test_wrong_options_of_register_images_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        air_jax.register_images(np.zeros((8, 8)), np.zeros((8, 8)), **options)
