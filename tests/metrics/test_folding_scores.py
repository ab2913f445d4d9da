"""Scores of a displacement, against SimpleITK, explicit simplices and values by hand."""

import itertools

import jax
import numpy as np
import pytest
import SimpleITK

from air_jax import metrics
from air_jax.transforms import simplex_jacobian_determinants


def grid_of(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float64)


def random_displacement(shape, scale, batch=1):
    return (scale * np.random.default_rng(0).standard_normal((batch, *shape, len(shape)))).astype(np.float32)


def linear(matrix, shape):
    """The displacement of `p -> matrix p`."""
    return (grid_of(shape) @ (np.asarray(matrix) - np.eye(len(shape))).T)[None].astype(np.float32)


def simplices(num_axes):
    """Corners of the triangles or tetrahedra of a unit cell in both its divisions; each belongs to its first corner."""
    for corner in itertools.product((1, 0), repeat=num_axes):
        yield [corner, *(tuple(np.array(corner) ^ unit) for unit in np.eye(num_axes, dtype=int))]
    if num_axes == 3:
        yield [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
        yield [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]


def signed_volumes(displacement):
    """Each simplex of every cell after the map: its first corner, and its volume, which is negative if inside out."""
    shape, num_axes = displacement.shape[:-1], displacement.shape[-1]
    positions = grid_of(shape) + displacement
    for simplex in simplices(num_axes):
        cuts = [tuple(slice(c, size - 1 + c) for c, size in zip(corner, shape, strict=True)) for corner in simplex]
        edges = np.stack([positions[cut] - positions[cuts[0]] for cut in cuts[1:]], axis=-1)
        orientation = np.sign(np.linalg.det(np.subtract(simplex[1:], simplex[0])))
        yield simplex[0], orientation * np.linalg.det(edges) / {2: 2, 3: 6}[num_axes]


def test_folding_by_hand():
    displacement = np.zeros((2, 5, 5, 2), np.float32)
    displacement[1, ..., 0] = -2 * np.arange(5)[:, None]  # rows reversed: p + u(p) = -p, determinant -1 everywhere
    np.testing.assert_array_equal(metrics.folding_percent(displacement), [0, 100])
    np.testing.assert_array_equal(metrics.any_corner_folding_percent(displacement), [0, 100])
    np.testing.assert_array_equal(metrics.ndv_percent(displacement), [0, 100])
    np.testing.assert_allclose(metrics.sd_log_jacobian(displacement), [0, 0], atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 9), (12, 9, 8)])
def test_compression_agrees_with_simpleitk(shape):
    """Inside the image, SimpleITK also uses central differences."""
    displacement = random_displacement(shape, 0.8, batch=2)
    mask = np.random.default_rng(1).random((2, *shape)) < 0.6
    mask[1, : shape[0] // 2] = False
    expected = []
    for u, counts in zip(displacement, mask, strict=True):
        field = SimpleITK.GetImageFromArray(u[..., ::-1].astype(np.float64), isVector=True)
        volume = SimpleITK.GetArrayFromImage(SimpleITK.DisplacementFieldJacobianDeterminant(field))
        inside = (slice(1, -1),) * len(shape)
        expected.append(100 * np.mean(volume[inside][counts[inside]] < 0.3))
    assert min(expected) > 3
    np.testing.assert_allclose(metrics.compressed_percent(displacement, mask), expected, rtol=1e-5)


def test_compression_by_hand():
    halved = linear(np.diag([0.5, 0.5]), (6, 7))  # a quarter of the area
    mask = np.zeros((1, 6, 7), bool)
    assert np.isnan(metrics.compressed_percent(halved, mask)[0])
    mask[0, 2:4] = True
    assert metrics.compressed_percent(halved, mask)[0] == 100
    assert metrics.compressed_percent(linear(np.diag([0.5, 0.7]), (6, 7)), mask)[0] == 0


def test_any_corner_counts_the_folds_that_central_differences_miss():
    displacement = np.zeros((1, 5, 5, 2), np.float32)
    displacement[0, 2, 2, 0] = 1.5
    assert metrics.folding_percent(displacement)[0] == 0
    # Folded at the voxel itself and at the next row's voxel, which sees it backwards: 2 of the 9 interior voxels.
    np.testing.assert_allclose(metrics.any_corner_folding_percent(displacement), 100 * 2 / 9, rtol=1e-6)


@pytest.mark.parametrize("shape", [(9, 10), (6, 7, 8)])
def test_jacobian_scores_agree_with_simpleitk(shape):
    num_axes = len(shape)
    displacement = random_displacement(shape, 0.3)
    field = SimpleITK.GetImageFromArray(displacement[0, ..., ::-1].astype(np.float64), isVector=True)  # ITK: x first
    interior = (slice(1, -1),) * num_axes
    determinant = SimpleITK.GetArrayFromImage(SimpleITK.DisplacementFieldJacobianDeterminant(field))[interior]
    np.testing.assert_allclose(metrics.folding_percent(displacement), 100 * (determinant <= 0).mean(), rtol=1e-5)
    expected = np.log(np.clip(determinant, 1e-9, None)).std()
    np.testing.assert_allclose(metrics.sd_log_jacobian(displacement), expected, rtol=1e-3)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_ndv_is_0_for_affine_maps_and_100_for_reflections(num_axes):
    shape = (5, 6, 7)[:num_axes]
    rng = np.random.default_rng(0)
    matrix = np.eye(num_axes) + 0.3 * rng.uniform(-1, 1, (num_axes, num_axes))
    assert np.linalg.det(matrix) > 0
    swap = np.eye(num_axes)[[1, 0, 2][:num_axes]]
    fields = [np.zeros((1, *shape, num_axes)), np.full((1, *shape, num_axes), -2.7), linear(matrix, shape)]
    fields += [linear(swap, shape), linear(swap @ matrix, shape)]
    expected = [0, 0, 0, 100, 100 * np.linalg.det(matrix)]  # the volume after the map
    ndv = metrics.ndv_percent(np.concatenate(fields).astype(np.float32))
    np.testing.assert_allclose(ndv, expected, rtol=1e-5, atol=1e-4)


def test_ndv_by_hand_for_one_pixel_that_passes_its_neighbour():
    displacement = np.zeros((1, 7, 7, 2), np.float32)
    displacement[0, 3, 3, 0] = 1.5
    # The pixel is now at (4.5, 3), beyond the row of its neighbour (4, 3). In the cell to the right two triangles are
    # inside out: that with (4, 3) and (3, 4), of base 0.5 and height 1, and that with (4, 3) and (4, 4), of base 1 and
    # height 0.5, each in one of the divisions. The cell to the left mirrors it: 4 * 0.25 / 2 of 5 x 5 pixels.
    np.testing.assert_allclose(metrics.ndv_percent(displacement), 100 * 0.5 / 25, rtol=1e-6)


def test_ndv_by_hand_for_one_voxel_that_passes_its_neighbour():
    displacement = np.zeros((1, 7, 7, 7, 3), np.float32)
    displacement[0, 3, 3, 3, 0] = 1.5
    # Four cells are between the voxel and its neighbour (4, 3, 3). In one division the voxel has a corner tetrahedron,
    # with edges of -0.5, 1 and 1: volume -0.5 / 6. In the other its neighbour has one, with the same edges, and the
    # voxel is part of the middle one, which keeps (2 - 1.5) / 6. So 4 * 2 * (0.5 / 6) / 2 of 5^3 voxels.
    np.testing.assert_allclose(metrics.ndv_percent(displacement), 100 * 4 * (0.5 / 6) / 125, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
def test_determinants_are_the_volumes_of_explicit_simplices(shape):
    displacement = random_displacement(shape, 0.4)
    determinants = np.asarray(simplex_jacobian_determinants(displacement))[:, 0]
    expected = []
    for first, volumes in signed_volumes(displacement[0]):
        # The cells around an interior voxel in which it is the first corner.
        interior = tuple(slice(1 - c, size - 1 - c) for c, size in zip(first, shape, strict=True))
        expected.append(volumes[interior])
    np.testing.assert_allclose(determinants / {2: 2, 3: 6}[len(shape)], expected, atol=1e-5)
    folded = np.maximum(-np.stack(expected), 0).sum(axis=0) / 2
    assert folded.max() > 0
    np.testing.assert_allclose(metrics.ndv_percent(displacement), 100 * folded.mean(), rtol=1e-4)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_the_two_divisions_fill_the_domain_in_the_mean(num_axes):
    """Points that move inside the domain move volume between cells and keep the total."""
    displacement = np.zeros((1, *(7,) * num_axes, num_axes), np.float32)
    inside = (0, *(slice(2, -2),) * num_axes)
    displacement[inside] = random_displacement((3,) * num_axes, 0.4)[0]
    volumes = [volumes.sum() for _, volumes in signed_volumes(displacement[0])]
    np.testing.assert_allclose(sum(volumes) / 2, 6**num_axes, rtol=1e-5)
    determinants = np.asarray(simplex_jacobian_determinants(displacement))
    np.testing.assert_allclose(determinants.sum() / {2: 2, 3: 6}[num_axes] / 2, 5**num_axes, rtol=1e-5)


def test_ndv_within_a_mask():
    displacement = np.zeros((2, 7, 7, 2), np.float32)
    displacement[:, 3, 3, 0] = 1.5
    mask = np.zeros((2, 7, 7), bool)
    mask[0, 3, 3] = mask[0, 0] = True  # the border does not count; the pixel itself has half of what is folded
    mask[1, 0] = True
    np.testing.assert_allclose(metrics.ndv_percent(displacement, mask=mask), [100 * 0.25, np.nan], rtol=1e-6)


def test_sd_log_jacobian_of_learn2reg_agrees_with_numpy():
    displacement = random_displacement((7, 8, 9), 0.5, batch=2)
    for u, found in zip(displacement, metrics.sd_log_jacobian_learn2reg(displacement), strict=True):
        derivatives = np.stack([np.stack(np.gradient(u[..., n]), axis=-1) for n in range(3)], axis=-2)
        determinant = np.linalg.det(derivatives + np.eye(3))[2:-2, 2:-2, 2:-2]
        np.testing.assert_allclose(found, np.log(np.clip(determinant + 3, 1e-9, 1e9)).std(), rtol=1e-4)
    with pytest.raises(ValueError, match="5 voxels"):
        metrics.sd_log_jacobian_learn2reg(np.zeros((1, 5, 4, 5, 3)))


def test_scores_of_a_displacement_under_jit():
    displacement = random_displacement((6, 7), 0.4, batch=3)
    scores = jax.jit(metrics.displacement_scores)(displacement)
    assert set(scores) == {"folding_percent", "any_corner_folding_percent", "ndv_percent", "sd_log_jacobian"}
    for name, values in scores.items():
        assert values.shape == (3,)
        np.testing.assert_allclose(values, getattr(metrics, name)(displacement), rtol=1e-4)


@pytest.mark.parametrize("shape", [(6, 7), (2, 6, 1), (1, 6, 7)])
def test_masks_of_another_shape_are_refused_and_not_broadcast(shape):
    displacement, mask = np.zeros((2, 6, 7, 2), np.float32), np.ones(shape, bool)
    for call in (
        lambda: metrics.ndv_percent(displacement, mask=mask),
        lambda: metrics.compressed_percent(displacement, mask),
    ):
        with pytest.raises(ValueError, match=r"displacement has shape \(2, 6, 7, 2\) and mask has shape"):
            call()


def test_scores_within_a_mask_are_those_of_the_part():
    """A displacement that is padded at its ends, masked to the interior of the part."""
    displacement = random_displacement((9, 8), 0.6, batch=2)
    mask = np.zeros((2, 9, 8), bool)
    mask[:, :6, :5] = True
    found = metrics.displacement_scores(displacement, mask=mask)
    for name, values in metrics.displacement_scores(displacement[:, :7, :6]).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4)
