"""Files that show different parts: masks, fields of view, coverage, and registrations that are dropped."""

import json

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from air_jax import UserError, io
from air_jax.file_registration import solve
from air_jax.file_registration.grids import bucket, pad
from air_jax.file_registration.inputs import prepare, read_subjects
from air_jax.file_registration.options import Options, choose_registration
from air_jax.file_registration.run import register_files
from air_jax.file_registration.scores import warped_values
from air_jax.losses import make_objective
from air_jax.transforms.intensity import normalize

pytestmark = pytest.mark.slow
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def texture(shape=(24, 22, 20)):
    """Hounsfield units: smooth noise in a ball, in air."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(shape), 2)
    distance = np.linalg.norm(np.stack(np.indices(shape), axis=-1) - (np.array(shape) - 1) / 2, axis=-1)
    return np.where(distance < 9, 40 + 300 * noise / noise.std(), -1000).round().astype(np.int16)


def write(folder, **images):
    for name, (array, first) in images.items():
        affine = AFFINE.copy()
        affine[:3, 3] = 2.0 * np.array(first)
        io.write_image(folder / f"{name}.nii.gz", array, affine)


def options(folder, **given):
    files = {name: folder / f"{given.pop(name, name)}.nii.gz" for name in ("fixed", "moving")}
    return Options(**files, output_dir=folder / "out", **given)


def inputs_of(chosen):
    fixed, moving = read_subjects(chosen)
    return prepare(choose_registration(chosen, 3)[0], fixed, moving, chosen)


def test_outside_of_a_smaller_ct_is_air_and_does_not_count(tmp_path, without_report, capsys):
    image = texture()
    write(tmp_path, fixed=(image, (0, 0, 0)), moving=(image[:, :, 3:17], (0, 0, 3)))
    scores = register_files(options(tmp_path, affine="rigid", refine_steps=10))
    assert scores["before"]["coverage"] == pytest.approx(14 / 20, abs=1e-5)
    for when in ("before", "after"):
        assert scores[when]["ncc_overlap"] > 0.99
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["after"] == scores["after"]
    printed = capsys.readouterr().out
    assert "ncc_overlap" in printed
    assert "coverage" in printed
    inputs = inputs_of(options(tmp_path))
    warped = warped_values(inputs, np.zeros((*image.shape, 3), np.float32))
    np.testing.assert_array_equal(warped, np.where((np.arange(20) >= 3) & (np.arange(20) < 17), image, -1000))
    water = inputs_of(options(tmp_path, background=0.0))
    assert warped_values(water, np.zeros((*image.shape, 3), np.float32))[0, 0, 0] == 0


def test_padding_changes_neither_normalisation_nor_alignment(tmp_path, without_report):
    image = texture()
    padded = image.copy()
    padded[:3], padded[-3:] = -3024, -3024
    write(tmp_path, fixed=(image, (0, 0, 0)), moving=(padded, (0, 0, 0)))
    register_files(options(tmp_path, affine="rigid", refine_steps=10))
    displacement, _ = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    assert np.abs(displacement[3:-3]).max() < 0.3
    counts = padded > -3024
    expected = normalize(image[3:-3], "percentile")
    found = np.asarray(inputs_of(options(tmp_path)).moving_image)[0, ..., 0]
    np.testing.assert_allclose(found[3:-3], expected, atol=1e-6)
    np.testing.assert_array_equal(found[~counts], expected[0, 0, 0])


def test_nan_is_outside(tmp_path, without_report):
    """The true map is the identity, and only what both images show can tell it."""
    image = texture().astype(np.float32)
    moving = np.where(image > -1000, image, 0)
    write(tmp_path, fixed=(image, (0, 0, 0)), moving=(moving, (0, 0, 0)))
    file = nibabel.load(tmp_path / "moving.nii.gz")
    values = np.where(np.asarray(file.dataobj) == 0, np.nan, file.dataobj)
    nibabel.Nifti1Image(values.astype(np.float32), file.affine).to_filename(tmp_path / "moving.nii.gz")
    scores = register_files(options(tmp_path, affine="rigid", refine_steps=10))
    assert scores["after"]["ncc_overlap"] > 0.98
    displacement, _ = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    assert np.abs(displacement[image > -1000]).max() < 0.7


def test_side_by_side_headers_do_not_stop_the_affine(tmp_path, without_report):
    """Before the affine nothing is shown together, so nothing can be compared."""
    image = texture()
    write(tmp_path, fixed=(image, (0, 0, 0)), moving=(image, (40, 0, 0)))
    scores = register_files(options(tmp_path, affine="rigid", refine_steps=0))
    assert scores["before"]["coverage"] == 0
    assert scores["before"]["ncc_overlap"] is None
    assert scores["after"]["ncc_overlap"] > 0.98


def test_masked_garbage_has_no_influence(tmp_path, without_report):
    image = texture()
    moved = shift(image.astype(float), (1, 1, 0), order=1, cval=-1000).round().astype(np.int16)
    mask = np.ones(image.shape, np.uint8)
    mask[8:13, 8:13, 8:13] = 0
    noise = np.random.default_rng(1).integers(-900, 3000, image.shape).astype(np.int16)
    write(tmp_path, fixed=(image, (0, 0, 0)), mask=(mask, (0, 0, 0)), moving=(moved, (0, 0, 0)))
    write(tmp_path, damaged=(np.where(mask, moved, noise), (0, 0, 0)))
    fields = []
    for moving in ("moving", "damaged"):
        chosen = options(tmp_path, moving=moving, moving_mask=tmp_path / "mask.nii.gz", affine="rigid", refine_steps=10)
        register_files(chosen)
        fields.append(io.read_field(tmp_path / "out" / "displacement.nii.gz")[0])
    np.testing.assert_array_equal(*fields)


def test_images_that_do_not_overlap_are_refused_before_anything_is_written(tmp_path):
    image = texture()
    write(tmp_path, fixed=(image, (0, 0, 0)), moving=(image, (300, 400, 0)))
    with pytest.raises(UserError, match=r"does not overlap .*; their centres are 1000 mm apart; try --affine=rigid"):
        register_files(options(tmp_path, affine="none"))
    assert not (tmp_path / "out").exists()


def test_little_coverage_is_said(tmp_path, without_report, capsys):
    image = texture()
    write(tmp_path, fixed=(image, (0, 0, 0)), moving=(image[:, :, 8:12], (0, 0, 8)))
    register_files(options(tmp_path, affine="none", refine_steps=0))
    assert "warning: the moving image covers only 20 % of the fixed image" in capsys.readouterr().out


def test_an_affine_and_a_deformation_that_are_no_better_are_dropped(tmp_path, without_report, capsys, monkeypatch):
    image = texture()
    write(tmp_path, fixed=(image, (0, 0, 0)), moving=(image, (0, 0, 0)))
    register_files(options(tmp_path, affine="rigid", refine_steps=10))
    displacement, _ = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    np.testing.assert_array_equal(displacement, 0)
    printed = capsys.readouterr().out
    assert "the affine does not improve its criterion" in printed
    assert "the deformation does not improve its criterion" in printed
    # A refinement that spoils the alignment.
    worse = solve.refine(*_spoiled(image), num_steps=0)
    monkeypatch.setattr(solve, "refine", lambda *arguments, **options: worse)
    register_files(options(tmp_path, affine="none", refine_steps=10))
    np.testing.assert_array_equal(io.read_field(tmp_path / "out" / "displacement.nii.gz")[0], 0)


def _spoiled(image):
    same = pad(np.asarray(image, np.float32), bucket(image.shape))[None, ..., None]
    return make_objective("mse"), same, same, np.full((*same.shape[:-1], 3), 2, np.float32)
