"""Properties that hold for every input, tried on drawn ones: sampling, patches, scores, files and damaged files."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK
from helpers import oblique_affine
from hypothesis import given, settings
from hypothesis import strategies as st

from air_jax import io, metrics
from air_jax.models.layers.patches import patchify, unpatchify
from air_jax.transforms import sample, warp
from experiments.reliability.fuzz import make_files, read_damaged

SEEDS = st.integers(0, 2**32 - 1)
few = settings(derandomize=True, max_examples=12, deadline=None, database=None)
SCIPY_MODES = {"constant": "grid-constant", "nearest": "nearest", "wrap": "grid-wrap", "mirror": "mirror"}


@few
@given(
    SEEDS,
    st.sampled_from([(5, 6), (4, 5, 3)]),
    st.sampled_from([0, 1]),
    st.sampled_from(sorted(SCIPY_MODES)),
    st.sampled_from([0.0, 0.3, 3.0, 1e3]),
)
def test_warp_and_sample_agree_with_scipy(seed, shape, order, mode, scale):
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((1, *shape)).astype(np.float32)
    displacement = (scale * rng.standard_normal((1, *shape, len(shape)))).astype(np.float32)
    coordinates = np.stack(np.indices(shape), axis=-1) + displacement.astype(np.float64)
    expected = scipy.ndimage.map_coordinates(
        image[0].astype(np.float64), np.moveaxis(coordinates[0], -1, 0), order=order, mode=SCIPY_MODES[mode]
    )
    # float32 has coordinates of a thousand voxels to 1e-4.
    tolerance = 1e-5 if scale < 100 else 2e-3
    warped = np.asarray(warp(image, displacement, order=order, mode=mode))[0]
    assert np.mean(np.abs(warped - expected) > tolerance) <= (0 if order or scale < 100 else 0.05)
    np.testing.assert_array_equal(sample(image, coordinates.astype(np.float32), order=order, mode=mode)[0], warped)
    if scale == 0:
        np.testing.assert_array_equal(warped, image[0])


@few
@given(
    SEEDS,
    st.sampled_from([((2, 3), (2, 2)), ((1, 4), (3, 1)), ((2, 1, 2), (1, 2, 2))]),
    st.sampled_from([1, 3]),
)
def test_patches_have_the_voxels_of_their_place_and_go_back(seed, grid_and_patch, channels):
    grid, patch = grid_and_patch
    shape = tuple(a * b for a, b in zip(grid, patch, strict=True))
    image = np.random.default_rng(seed).standard_normal((2, *shape, channels)).astype(np.float32)
    patches = np.asarray(patchify(image, patch))
    for place in itertools.product(*map(range, grid)):
        block = tuple(slice(i * size, (i + 1) * size) for i, size in zip(place, patch, strict=True))
        np.testing.assert_array_equal(patches[:, *place], image[:, *block].reshape(2, -1))
    np.testing.assert_array_equal(unpatchify(patches, patch), image)


@few
@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_scores_are_symmetric_and_within_their_bounds(seed, share, other_share):
    rng = np.random.default_rng(seed)
    fixed, warped = (rng.random((1, 5, 6, 4)) < each for each in (share, other_share))
    images = fixed[..., None].astype(np.float32), warped[..., None].astype(np.float32)
    for score in (metrics.mask_dice, metrics.mse):
        there, back, same = score(*images), score(*images[::-1]), score(images[0], images[0])
        np.testing.assert_array_equal(there, back)
        assert np.isnan(there[0]) or 0 <= there[0] <= 1
        assert np.isnan(same[0]) or same[0] == (1 if score is metrics.mask_dice else 0)
    labels = fixed.astype(np.int32) * rng.integers(1, 3, fixed.shape, dtype=np.int32)
    other = warped.astype(np.int32) * rng.integers(1, 3, fixed.shape, dtype=np.int32)
    dice = np.asarray(metrics.label_dice(labels, other, (1, 2)))[0]
    np.testing.assert_array_equal(dice, metrics.label_dice(other, labels, (1, 2))[0])
    for found, label in zip(dice, (1, 2), strict=True):
        a, b = labels == label, other == label
        expected = 2 * (a & b).sum() / (a.sum() + b.sum()) if (a | b).any() else np.nan
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    spacing = rng.uniform(0.5, 3, 3)
    distance = metrics.hd95(fixed[0], warped[0], spacing)
    np.testing.assert_array_equal(distance, metrics.hd95(warped[0], fixed[0], spacing))
    np.testing.assert_allclose(metrics.hd95(fixed[0], warped[0], 2 * spacing), 2 * distance)
    diagonal = np.linalg.norm(spacing * (np.array(fixed[0].shape) - 1))
    assert not np.isfinite(distance) or 0 <= distance <= diagonal
    assert metrics.hd95(fixed[0], fixed[0], spacing) == 0 or not fixed.any()


@few
@given(SEEDS, st.sampled_from([0.0, 0.2, 1.0, 5.0]))
def test_folds_are_shares_and_corners_find_at_least_those_of_central_differences(seed, scale):
    displacement = scale * np.random.default_rng(seed).standard_normal((1, 5, 6, 4, 3)).astype(np.float32)
    central = float(metrics.folding_percent(displacement)[0])
    corners = float(metrics.any_corner_folding_percent(displacement)[0])
    # The central determinant is the mean of those of the corners.
    assert 0 <= central <= corners <= 100
    volume = float(metrics.ndv_percent(displacement)[0])
    assert volume >= 0
    assert (volume > 0) <= (corners > 0)
    if scale == 0:
        assert (central, corners, volume) == (0, 0, 0)


FORMATS = {
    ".nii.gz": "uint8 int16 uint16 int32 float32",
    ".nrrd": "uint8 int16 uint16 int32 float32",
    ".mha": "uint8 int16 uint16 int32 float32",
    ".npz": "uint8 int16 uint16 int32 int64 float32",
    ".mgz": "uint8 int16 int32 float32",
    ".png": "uint8 uint16",
    ".tif": "uint8 uint16",
}
KINDS = [(suffix, dtype) for suffix, dtypes in FORMATS.items() for dtype in dtypes.split()]


def _drawn(rng, shape, dtype):
    if dtype == "float32":
        return rng.standard_normal(shape).astype(np.float32)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize(("suffix", "dtype"), KINDS)
@settings(few, max_examples=3)
@given(SEEDS)
def test_a_file_keeps_values_type_and_place(tmp_path_factory, suffix, dtype, seed):
    rng = np.random.default_rng(seed)
    num_axes = 2 if suffix in (".png", ".tif") else 3
    array = _drawn(rng, tuple(rng.integers(3, 7, num_axes)), dtype)
    affine = oblique_affine(num_axes)
    affine[:-1, -1] += rng.uniform(-100, 100, num_axes)
    affine[:-1, :-1] *= rng.uniform(0.2, 5, num_axes)
    path = tmp_path_factory.mktemp("files") / f"image{suffix}"
    io.write_image(path, array, affine)
    read = io.read_image(path)
    assert read.array.dtype == array.dtype
    np.testing.assert_array_equal(read.array, array)
    if num_axes == 3:
        np.testing.assert_allclose(read.affine, affine, atol=1e-4)
    if suffix not in (".npz", ".mgz"):
        stored = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
        np.testing.assert_array_equal(stored.T if num_axes == 3 else stored, array)


NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


@few
@given(
    st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=5),
    st.permutations(["x", "y", "z", "name"]),
    st.sampled_from([",", ";", "\t", ", "]),
    st.sampled_from(["", " [mm]", "_mm"]),
)
def test_landmarks_are_read_whatever_the_table_looks_like(tmp_path_factory, rows, columns, delimiter, unit):
    folder = tmp_path_factory.mktemp("tables")
    cells = [dict(zip("xyz", map(repr, row), strict=True)) | {"name": "a point"} for row in rows]
    header = [name if name == "name" else name.upper() + unit for name in columns]
    lines = [delimiter.join(header), *(delimiter.join(row[name] for name in columns) for row in cells)]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    np.testing.assert_array_equal(io.read_landmarks(folder / "table.csv"), rows)
    for name in ("new.csv", "new.fcsv", "new.mrk.json"):
        io.write_landmarks(folder / name, np.array(rows))
        np.testing.assert_array_equal(io.read_landmarks(folder / name), rows)


@settings(few, max_examples=40)
@given(SEEDS)
def test_a_damaged_file_is_read_or_refused_in_one_line(files, tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("damaged")
    for path, read in files:
        assert read_damaged(path, read, folder, seed) in ("read", "refused"), path.name


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of every format with their readers."""
    return make_files(tmp_path_factory.mktemp("good"))
