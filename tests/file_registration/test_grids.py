"""The grids of pairs: buckets of sizes, programs that pairs of near sizes share, and scores without the padding."""

import dataclasses

import numpy as np
import pytest

from air_jax import io
from air_jax.file_registration import pair, scores
from air_jax.file_registration.grids import bucket, buckets, on_grids, relative_sizes
from air_jax.file_registration.guiding import Guiding
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.optimize import affine, deformable, visibility
from air_jax.transforms import spaces


def test_buckets_are_few_and_near():
    sizes = range(3, 600)
    found = [bucket([size])[0] for size in sizes]
    growth = [(large - size) / size for large, size in zip(found, sizes, strict=True)]
    assert min(growth) >= 0
    assert max(growth[33 - 3 :]) <= 15 / 33
    assert max(growth[97 - 3 :]) <= 15 / 97
    assert len(set(found)) < 32
    assert bucket([160, 192, 224]) == (160, 192, 224)


def test_both_images_of_a_pair_get_one_grid_where_they_are_about_as_large():
    assert buckets((35, 51, 35), (34, 52, 33)) == ((48, 64, 48),) * 2
    assert buckets((35, 51, 35), (160, 192, 224)) == ((48, 64, 48), (160, 192, 224))
    assert buckets((64, 64, 8), (8, 64, 64)) == ((64, 64, 8), (8, 64, 64))


def test_relative_sizes_are_few():
    assert relative_sizes([0.7, 0.7, 0.7], [0.7, 0.7000001, 1.4]) == ([1.0, 1.0, 1.0], [1.0, 1.0, 2.0])
    assert relative_sizes([1.0, 1.0, 2.47], [1.0, 0.5, 1e-9]) == ([1.0, 1.0, 2.47], [1.0, 0.5, 1e-4])


def image_of(shape, row):
    rows, columns = np.indices(shape)
    image = np.exp(-((rows - row) ** 2 + (columns - 10) ** 2) / 30) + 0.2 * np.sin((rows - row) / 3)
    return (100 * image).astype(np.float32)


def write_pair(folder, shape, moving_shape, **options):
    folder.mkdir()
    for name, sizes, row in (("fixed", shape, 9), ("moving", moving_shape, 11)):
        io.write_image(folder / f"{name}.nii.gz", image_of(sizes, row), np.eye(3))
    files = (folder / f"{name}.nii.gz" for name in ("fixed", "moving"))
    return Options(*files, folder / "out", affine="translation", refine_steps=2, **options)


def test_what_depends_on_the_grid_is_not_padded(tmp_path):
    options = write_pair(tmp_path / "pair", (22, 23), (21, 19))
    assert pair.read_pair(options).inputs.shape == (24, 24)
    assert pair.read_pair(options).inputs.moving_shape == (24, 24)
    io.write_image(tmp_path / "mask.nii.gz", np.ones((22, 23), np.uint8), np.eye(3))
    for name in ("fixed", "moving"):
        (tmp_path / f"{name}.csv").write_text("x,y\n5,6\n7,9\n")
    landmarks = {"guide_landmarks": tmp_path / "moving.csv", "fixed_guide_landmarks": tmp_path / "fixed.csv"}
    for given in ({"regularizers": (("bending", 0.1),)}, {"keep_volume": tmp_path / "mask.nii.gz"}, landmarks):
        read = pair.read_pair(dataclasses.replace(options, guiding=Guiding(**given)))
        assert (read.inputs.shape, read.inputs.moving_shape) == ((22, 23), (21, 19))


def test_the_padding_has_no_weight_and_the_value_of_the_background(tmp_path):
    inputs = pair.read_pair(write_pair(tmp_path / "pair", (22, 23), (21, 19), background=-5.0)).inputs
    assert float(inputs.fixed_weights.sum()) == 22 * 23
    assert float(inputs.moving_weights.sum()) == 21 * 19
    assert not np.asarray(inputs.moving_weights)[0, :, 19:].any()
    outside = np.asarray(inputs.moving_image)[0, :, 19:]
    np.testing.assert_allclose(outside, np.broadcast_to(inputs.normalized_background, outside.shape), atol=1e-6)
    np.testing.assert_array_equal(on_grids(inputs).fixed_image, inputs.fixed_image)


@pytest.mark.slow
def test_a_second_pair_of_near_sizes_compiles_nothing_new(tmp_path, without_report):
    programs = (
        affine._register,
        deformable._refine,
        visibility._fill,
        visibility._value,
        spaces._whole_inverse,
        spaces._sample_moving,
        spaces._jacobian_map,
        scores._image_scores,
        scores._displacement_scores,
    )
    counts = []
    for index, shapes in enumerate([((22, 23), (21, 24)), ((24, 21), (23, 22))]):
        folder = tmp_path / str(index)
        found = register_files(write_pair(folder, *shapes))
        counts.append([program._cache_size() for program in programs])
        assert found["after"]["mse_overlap"] < 0.5 * found["before"]["mse_overlap"]
        warped = io.read_image(folder / "out" / "warped.nii.gz").array
        jacobian = io.read_image(folder / "out" / "jacobian.nii.gz").array
        assert warped.shape == jacobian.shape == shapes[0]
        assert io.read_field(folder / "out" / "inverse_displacement.nii.gz")[0].shape == (*shapes[1], 2)
        # The scores are those of the written files.
        fixed = io.read_image(folder / "fixed.nii.gz").array
        assert np.isclose(found["after"]["ncc"], np.corrcoef(fixed.ravel(), warped.ravel())[0, 1], atol=0.02)
        assert found["after"]["folding_percent"] == 100 * np.mean(jacobian[1:-1, 1:-1] <= 0)
        logarithm = np.log(jacobian[1:-1, 1:-1])
        assert np.isclose(found["after"]["sd_log_jacobian"], logarithm.std(), atol=1e-4)
    assert counts[0] == counts[1]
