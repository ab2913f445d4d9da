"""Displacements between two rotated grids: deformation, affine and headers in one field, its inverse, its Jacobian."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import SimpleITK
from scipy.spatial.transform import Rotation

from air_jax.io import to_physical, to_voxels
from air_jax.transforms.spaces import (
    jacobian_map,
    label_ranks,
    sample_moving,
    sample_segmentation,
    voxel_matrix,
    whole_displacement,
    whole_inverse,
)

GRIDS = {
    2: (((45, 38), (0.9, 1.4), 0.3), ((52, 40), (1.0, 0.8), -0.2)),
    3: (((27, 22, 18), (0.9, 1.2, 1.9), (0.2, -0.3, 0.25)), ((30, 24, 26), (0.8, 1.1, 1.3), (-0.1, 0.1, 0.3))),
}
CENTRE = np.array([12.0, -7.0, 310.0])


def grid_affine(shape, spacing, rotation, centre):
    num_axes = len(shape)
    affine = np.eye(num_axes + 1)
    turn = (0, 0, rotation) if num_axes == 2 else rotation
    affine[:-1, :-1] = Rotation.from_rotvec(turn).as_matrix()[:num_axes, :num_axes] * spacing
    affine[:-1, -1] = centre[:num_axes] - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    return affine


def smooth(shape, seed, sigma=3.5):
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return (noise / np.abs(noise).max()).astype(np.float32)


def square(matrix):
    return np.concatenate([matrix, np.eye(len(matrix) + 1)[-1:]])


class Case:
    """A deformation `u` of the fixed grid, followed by an affine motion in mm."""

    def __init__(self, num_axes):
        (self.shape, *fixed), (self.moving_shape, *moving) = GRIDS[num_axes]
        self.fixed_affine = grid_affine(self.shape, *fixed, CENTRE)
        self.moving_affine = grid_affine(self.moving_shape, *moving, CENTRE + np.array([1, -1, 2]))
        self.voxel_to_voxel = voxel_matrix(self.fixed_affine, self.moving_affine)
        middle = CENTRE[:num_axes]
        self.motion = np.eye(num_axes + 1)
        turn = Rotation.from_rotvec((0.05, 0.02, 0.12) if num_axes == 3 else (0, 0, 0.12)).as_matrix()
        self.motion[:-1, :-1] = turn[:num_axes, :num_axes] @ np.diag([1.05, 0.97, 1.02][:num_axes])
        self.motion[:-1, -1] = middle - self.motion[:-1, :-1] @ middle + [1.5, -1.0, 0.7][:num_axes]
        self.matrix = voxel_matrix(self.motion @ self.fixed_affine, self.moving_affine)
        self.displacement = np.stack([smooth(self.shape, 1 + axis, sigma=4.5) for axis in range(num_axes)], axis=-1) * 2
        self.moving = smooth(self.moving_shape, 0) * 3 + 4
        self.whole = whole_displacement(jnp.asarray(self.displacement), self.matrix, self.voxel_to_voxel)
        # The moving voxel coordinates of every fixed voxel, in float64.
        points = np.stack(np.indices(self.shape), axis=-1) + self.displacement.astype(np.float64)
        self.coordinates = points @ self.matrix[:, :-1].T + self.matrix[:, -1]
        last = np.array(self.moving_shape) - 1
        self.inside = ((self.coordinates >= 1e-3) & (self.coordinates <= last - 1e-3)).all(axis=-1)
        assert 0.4 < self.inside.mean() < 1


@pytest.fixture(params=[2, 3], scope="module")
def case(request):
    return Case(request.param)


def test_voxel_matrix_keeps_the_physical_place(case):
    points = np.random.default_rng(0).uniform(-20, 60, (50, len(case.shape)))
    there = points @ case.voxel_to_voxel[:, :-1].T + case.voxel_to_voxel[:, -1]
    expected = to_voxels(to_physical(points, case.fixed_affine), case.moving_affine)
    np.testing.assert_allclose(there, expected, atol=1e-10)


def test_whole_displacement_is_the_deformation_followed_by_the_matrix(case):
    points = np.stack(np.indices(case.shape), axis=-1) + np.asarray(case.whole, np.float64)
    there = points @ case.voxel_to_voxel[:, :-1].T + case.voxel_to_voxel[:, -1]
    np.testing.assert_allclose(there, case.coordinates, atol=5e-5)
    # Without an affine registration, the deformation is returned to the last bit.
    np.testing.assert_array_equal(
        whole_displacement(jnp.asarray(case.displacement), case.voxel_to_voxel, case.voxel_to_voxel), case.displacement
    )


def test_sample_moving_interpolates_as_scipy_does_in_one_step(case):
    expected = scipy.ndimage.map_coordinates(
        case.moving.astype(np.float64), np.moveaxis(case.coordinates, -1, 0), order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(sample_moving(case.moving, case.whole, case.voxel_to_voxel), expected, atol=2e-4)
    # Each channel of a colour image is sampled like a grey image.
    colours = np.stack([case.moving, 8 - case.moving], axis=-1)
    warped = np.asarray(sample_moving(colours, case.whole, case.voxel_to_voxel))
    np.testing.assert_allclose(warped[..., 0], expected, atol=2e-4)
    np.testing.assert_allclose(warped[case.inside][:, 1], 8 - expected[case.inside], atol=2e-4)


@pytest.mark.parametrize(
    ("dtype", "first_id"), [(np.uint8, 200), (np.int32, 2**31 - 6), (np.uint32, 2**32 - 6), (np.uint64, 2**64 - 6)]
)
def test_sample_segmentation_keeps_ids_and_type(case, dtype, first_id):
    ids = np.array([0, *range(first_id, first_id + 6)], dtype)  # neighbouring ids: float32 cannot tell them apart
    segmentation = np.random.default_rng(0).choice(ids, case.moving_shape)
    warped = sample_segmentation(segmentation, case.whole, case.voxel_to_voxel)
    assert warped.dtype == dtype
    away = (np.abs(case.coordinates % 1 - 0.5) > 1e-3).all(axis=-1) & case.inside  # not halfway between two voxels
    nearest = np.rint(case.coordinates).astype(int)
    np.testing.assert_array_equal(warped[away], segmentation[tuple(nearest[away].T)])
    outside = ((case.coordinates < -0.6) | (case.coordinates > np.array(case.moving_shape) - 0.4)).any(axis=-1)
    assert outside.any()
    assert (warped[outside] == 0).all()


def test_label_ranks_of_mixed_integer_types_are_exact():
    a, b = np.array([[7, -3], [2**40, 7]]), np.array([2**64 - 1, 2**64 - 2, 7, 0], np.uint64)
    ids, (ranks_a, ranks_b) = label_ranks(a, b)
    assert ids == [0, -3, 7, 2**40, 2**64 - 2, 2**64 - 1]
    np.testing.assert_array_equal(ranks_a, [[2, 1], [3, 2]])
    np.testing.assert_array_equal(ranks_b, [5, 4, 2, 0])
    assert ranks_a.dtype == ranks_b.dtype == np.int32


def test_simpleitk_resamples_to_the_same_image(case):
    num_axes = len(case.shape)
    moving = itk_image(case.moving, case.moving_affine)
    reference = itk_image(np.zeros(case.shape, np.float32), case.fixed_affine)
    field = itk_image(case.displacement.astype(np.float64) @ case.fixed_affine[:-1, :-1].T, case.fixed_affine)
    motion = SimpleITK.AffineTransform(num_axes)
    motion.SetMatrix(case.motion[:-1, :-1].ravel())
    motion.SetTranslation(case.motion[:-1, -1])
    # ITK applies the last transform first.
    both = SimpleITK.CompositeTransform([motion, SimpleITK.DisplacementFieldTransform(field)])
    expected = SimpleITK.Resample(moving, reference, both, SimpleITK.sitkLinear, 0.0, SimpleITK.sitkFloat32)
    expected = SimpleITK.GetArrayFromImage(expected).T
    warped = np.asarray(sample_moving(case.moving, case.whole, case.voxel_to_voxel))
    np.testing.assert_allclose(warped[case.inside], expected[case.inside], atol=1e-4)


def itk_image(array, affine):
    """Returns the ITK image of an array whose first axis is x."""
    num_axes = len(affine) - 1
    is_vector = array.ndim > num_axes
    axes = (*range(num_axes)[::-1], *range(num_axes, array.ndim))
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(axes)), isVector=is_vector)
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    return image


@pytest.mark.slow
def test_whole_inverse_inverts_both_ways(case):
    """`phi(phi^-1(y)) = y` and `phi^-1(phi(x)) = x`, for voxels whose path stays inside both grids."""
    inverse = np.asarray(
        whole_inverse(jnp.asarray(case.displacement), case.matrix, case.voxel_to_voxel, case.moving_shape), np.float64
    )
    assert inverse.shape == (*case.moving_shape, len(case.shape))
    y = np.stack(np.indices(case.moving_shape), axis=-1)
    # From moving voxels to the fixed voxels at the same physical place.
    back = np.linalg.inv(square(case.voxel_to_voxel))[:-1]
    p = (y + inverse) @ back[:, :-1].T + back[:, -1]
    margin = 3
    interior = ((p >= margin) & (p <= np.array(case.shape) - 1 - margin)).all(axis=-1)
    assert interior.mean() > 0.15
    whole = np.asarray(case.whole, np.float64)
    there = p + at(whole, p)
    again = there @ case.voxel_to_voxel[:, :-1].T + case.voxel_to_voxel[:, -1]
    error = np.abs(again - y)[interior].max()
    assert error < 0.05, error

    x = np.stack(np.indices(case.shape), axis=-1)
    q = case.coordinates
    interior = ((q >= margin) & (q <= np.array(case.moving_shape) - 1 - margin)).all(axis=-1)
    inner = ((x >= margin) & (x <= np.array(case.shape) - 1 - margin)).all(axis=-1)
    here = q + at(inverse, q)
    error = np.abs(here @ back[:, :-1].T + back[:, -1] - x)[interior & inner].max()
    assert error < 0.05, error


def at(field, points):
    """Interpolates a field `[*S, N]` linearly at points `[..., N]`."""
    components = [
        scipy.ndimage.map_coordinates(field[..., axis], np.moveaxis(points, -1, 0), order=1, mode="nearest")
        for axis in range(field.shape[-1])
    ]
    return np.stack(components, axis=-1)


def test_whole_inverse_without_deformation_is_the_inverse_affine(case):
    zero = jnp.zeros_like(jnp.asarray(case.displacement))
    inverse = np.asarray(whole_inverse(zero, case.matrix, case.voxel_to_voxel, case.moving_shape), np.float64)
    y = np.stack(np.indices(case.moving_shape), axis=-1)
    undone = (square(case.voxel_to_voxel) @ np.linalg.inv(square(case.matrix)))[:-1]
    np.testing.assert_allclose(y + inverse, y @ undone[:, :-1].T + undone[:, -1], atol=2e-5)
    same = whole_inverse(zero, case.voxel_to_voxel, case.voxel_to_voxel, case.moving_shape)
    np.testing.assert_allclose(same, 0, atol=1e-9)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_jacobian_map_agrees_with_simpleitk(num_axes):
    shape = (31, 24, 17)[:num_axes]
    displacement = np.stack([smooth(shape, axis) for axis in range(num_axes)], axis=-1) * 3
    field = itk_image(displacement.astype(np.float64), np.eye(num_axes + 1))
    expected = SimpleITK.GetArrayFromImage(SimpleITK.DisplacementFieldJacobianDeterminant(field)).T
    determinant = np.asarray(jacobian_map(jnp.asarray(displacement)))
    assert determinant.shape == shape
    inner = (slice(1, -1),) * num_axes
    assert expected[inner].std() > 0.1
    np.testing.assert_allclose(determinant[inner], expected[inner], atol=1e-5)
    np.testing.assert_array_equal(determinant[0, 1:-1], determinant[1, 1:-1])
