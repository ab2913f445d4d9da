"""The correction of motion, from file to files: motions put in by SciPy, maps read back by SimpleITK and nibabel."""

import json

import nibabel
import numpy as np
import pytest
import scipy.ndimage
import SimpleITK
import tifffile
from helpers import oblique_affine
from scipy.spatial.transform import Rotation

from air_jax import UserError, io
from air_jax.file_series.options import Options
from air_jax.file_series.parameters import framewise_displacement, sphere_radius
from air_jax.file_series.run import correct_motion
from air_jax.io.series import Series, read_series, write_series
from air_jax.io.space import reversed_affine

SHAPE = (20, 18, 14)


def blobs(shape, seed=0):
    image = np.zeros(shape)
    image[tuple(slice(4, -4) for _ in shape)] = np.random.default_rng(seed).random([size - 8 for size in shape])
    return 1000 * scipy.ndimage.gaussian_filter(image, 1.3)


def physical_motion(degrees, shift, centre):
    """Returns the map `[N, N+1]` of physical points that turns about the centre and shifts."""
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    if len(centre) == 2:
        turn = turn[:2, :2]
    return np.concatenate([turn, (centre + shift - turn @ centre)[:, None]], axis=1)


def frame_of(image, affine, motion):
    """Returns the frame that shows at `motion(x)` what the image shows at the physical point x."""
    square = np.concatenate([motion, np.eye(len(affine))[-1:]])
    back = np.linalg.inv(np.linalg.inv(affine) @ square @ affine)
    return scipy.ndimage.affine_transform(image, back[:-1, :-1], back[:-1, -1], order=3)


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A series on an oblique grid, frame 0 at rest, the results for it, and the true motions."""
    folder, affine, image = tmp_path_factory.mktemp("series"), oblique_affine(3), blobs(SHAPE)
    centre = io.to_physical((np.array(SHAPE) - 1) / 2, affine)
    true = [((0, 0, 0), (0, 0, 0)), ((2, -1, 1.5), (0.5, -0.3, 1.0)), ((-1.5, 2, -1), (-0.6, 0.8, 0.4))]
    frames = np.stack([frame_of(image, affine, physical_motion(*motion, centre)) for motion in true])
    write_series(folder / "bold.nii.gz", Series(frames.astype(np.float32), affine, 2.5))
    options = Options(folder / "bold.nii.gz", folder / "out", reference="first", affines=True)
    return folder, correct_motion(options), true, frames


@pytest.mark.slow
def test_the_table_has_the_motions_that_were_put_in(corrected):
    folder, scores, true, _ = corrected
    head, *rows = (line.split("\t") for line in (folder / "out" / "motion.tsv").read_text().splitlines())
    assert head == ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z", "framewise_displacement"]
    values = np.array([row[:6] for row in rows], float)
    np.testing.assert_allclose(values[:, :3], [shift for _, shift in true], atol=0.05)
    np.testing.assert_allclose(values[:, 3:], [degrees for degrees, _ in true], atol=0.15)
    assert rows[0][6] == "n/a"
    # By hand: differences of translations, and of rotations as lengths on a sphere of 50 mm.
    second = np.abs(values[1, :3] - values[0, :3]).sum() + 50 * np.deg2rad(np.abs(values[1, 3:] - values[0, 3:])).sum()
    assert float(rows[1][6]) == pytest.approx(second, abs=1e-4)
    assert scores["framewise_displacement_max"] >= scores["framewise_displacement_mean"] > 0
    assert scores["after"]["temporal_deviation"] < 0.3 * scores["before"]["temporal_deviation"]
    assert json.loads((folder / "out" / "scores.json").read_text()) == scores


@pytest.mark.slow
def test_the_affines_are_itks_and_lead_from_the_reference_to_the_frame(corrected):
    folder, _, true, _ = corrected
    affine = oblique_affine(3)
    points = io.to_physical(np.array([[5, 6, 4], [14, 9, 9.0]]), affine)
    centre = io.to_physical((np.array(SHAPE) - 1) / 2, affine)
    for index, motion in enumerate(true):
        transform = SimpleITK.ReadTransform(str(folder / "out" / f"affine_{index:04d}.mat"))
        expected = physical_motion(*motion, centre)
        for point in points:
            there = expected[:, :-1] @ point + expected[:, -1]
            np.testing.assert_allclose(transform.TransformPoint(point.tolist()), there, atol=0.05)


@pytest.mark.slow
def test_the_corrected_series_stands_still_in_the_series_space(corrected):
    folder, _, _, frames = corrected
    image = nibabel.load(folder / "out" / "corrected.nii.gz")
    before = nibabel.load(folder / "bold.nii.gz")
    assert image.shape == (*SHAPE, 3)
    np.testing.assert_allclose(image.affine, before.affine, atol=1e-5)
    assert image.header.get_zooms()[3] == 2.5
    assert image.header.get_xyzt_units() == ("mm", "sec")
    inner = (slice(4, -4),) * 3
    still = np.moveaxis(image.get_fdata(), -1, 0)
    for frame, moved in zip(still[1:], frames[1:], strict=True):
        wrong = np.abs(frame - still[0])[inner].mean()
        assert wrong < 0.15 * np.abs(moved - frames[0])[inner].mean()
    mean = nibabel.load(folder / "out" / "mean.nii.gz").get_fdata()
    np.testing.assert_allclose(mean, still.mean(axis=0), rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_pages_of_a_tiff_keep_their_type_and_move_in_pixels(tmp_path):
    image = 200 * blobs((26, 30)) / blobs((26, 30)).max()
    shifts = [(0, 0), (0.8, -1.2), (-1.0, 0.6)]
    frames = np.stack([scipy.ndimage.shift(image, (y, x), order=3) for x, y in shifts])
    tifffile.imwrite(
        tmp_path / "cells.tif", np.clip(np.rint(frames), 0, 255).astype(np.uint8), photometric="minisblack"
    )
    scores = correct_motion(Options(tmp_path / "cells.tif", tmp_path / "out", reference="first", kind="translation"))
    assert scores["unit"] == "pixels"
    rows = [line.split("\t") for line in (tmp_path / "out" / "motion.tsv").read_text().splitlines()]
    assert rows[0] == ["trans_x", "trans_y", "rot", "framewise_displacement"]
    np.testing.assert_allclose(np.array([row[:2] for row in rows[1:]], float), shifts, atol=0.05)
    stored = tifffile.imread(tmp_path / "out" / "corrected.tif")
    assert stored.dtype == np.uint8
    assert stored.shape == (3, 26, 30)


def test_the_sphere_of_slices_has_a_radius_in_mm():
    slices = Series(np.zeros((2, 30, 40)), np.diag([0.5, 0.25, 1.0]))
    assert sphere_radius(slices) == 15 / 4
    assert sphere_radius(Series(np.zeros((2, 30, 40)), reversed_affine(np.ones(2)))) == 10


def test_framewise_displacement_by_hand():
    parameters = np.array([[0, 0, 0, 0, 0, 0], [1, -2, 0.5, 0, 0, 180 / np.pi], [1, -2, 0.5, 0, 0, 180 / np.pi]])
    np.testing.assert_allclose(framewise_displacement(parameters, 50), [3.5 + 50, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "projective"}, r"--kind=projective: must be one of"),
        ({"interpolation": "sinc"}, r"--interpolation=sinc: must be one of"),
        ({"reference": "7"}, r"--reference=7: .* has the frames 0 to 2"),
        ({"reference": "-1"}, r"--reference=-1: .* has the frames 0 to 2"),
        ({"reference": "nowhere.nii"}, r"--reference=nowhere\.nii: not found"),
        ({"reference": "other.nii"}, r"other\.nii: is not on the grid of"),
        ({"mask": "other.nii"}, r"other\.nii: has shape"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(tmp_path, options, message):
    frames = np.random.default_rng(0).random((3, 6, 7, 5)).astype(np.float32)
    write_series(tmp_path / "bold.nii", Series(frames, np.eye(4)))
    io.write_image(tmp_path / "other.nii", np.ones((6, 7, 4), np.uint8), np.eye(4))
    if str(options.get("reference", "")).startswith("other"):
        options = {"reference": str(tmp_path / "other.nii")}
    if "mask" in options:
        options = {"mask": tmp_path / "other.nii"}
    with pytest.raises(UserError, match=message) as error:
        correct_motion(Options(tmp_path / "bold.nii", tmp_path / "out", **options))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("one.nii", np.zeros((6, 7, 5), np.float32), r"one\.nii: has shape \(6, 7, 5\); a series has the axes"),
        ("one.tif", np.zeros((6, 7), np.uint8), r"one\.tif: has shape \(1, 6, 7\); a series has several grey pages"),
        ("flat.nii", np.full((6, 7, 5, 3), 4, np.uint8), r"flat\.nii: is constant"),
    ],
)
def test_files_without_a_series_are_refused(tmp_path, name, array, message):
    if name.endswith(".tif"):
        tifffile.imwrite(tmp_path / name, array)
    else:
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name)
    with pytest.raises(UserError, match=message):
        correct_motion(Options(tmp_path / name, tmp_path / "out"))
    with pytest.raises(UserError, match=r"unknown kind of series"):
        read_series(tmp_path / "series.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"array": np.full((3, 6, 7, 5), np.nan)}, r"has no finite value"),
        ({"lost": 1}, r"frame 1 has no finite value \(1 such\)"),
        ({"array": np.zeros((3, 6, 2, 5))}, r"has frames of shape \(6, 2, 5\)"),
        ({"affine": np.diag([1e-20, 1e-20, 1e-20, 1])}, r"declares voxels of 1e-20"),
    ],
)
def test_a_series_that_cannot_be_aligned_is_refused(tmp_path, change, message):
    array = change.get("array", np.random.default_rng(0).random((3, 6, 7, 5))).astype(np.float32)
    if "lost" in change:
        array[change["lost"]] = np.nan
    image = nibabel.Nifti1Image(np.moveaxis(array, 0, -1), change.get("affine", np.eye(4)))
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"a\.nii: .*" + message):
        read_series(tmp_path / "a.nii")


def test_an_unknown_unit_of_time_is_refused(tmp_path):
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((6, 7, 5, 3)).astype(np.float32), np.eye(4))
    image.header["xyzt_units"] = 6 | 56  # no unit of time has this code
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"a\.nii: damaged, or not a NIfTI series"):
        read_series(tmp_path / "a.nii")


def test_a_tiff_that_lost_pages_is_refused_and_prints_nothing(tmp_path, capfd):
    pages = np.random.default_rng(0).integers(0, 255, (5, 20, 24)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "whole.tif") as file:
        for page in pages:
            file.write(page, photometric="minisblack", contiguous=False)
    np.testing.assert_array_equal(read_series(tmp_path / "whole.tif").array, pages)
    content = (tmp_path / "whole.tif").read_bytes()
    for share in (0.3, 0.55, 0.9):
        (tmp_path / "cut.tif").write_bytes(content[: int(share * len(content))])
        with pytest.raises(UserError, match=r"cut\.tif: damaged"):
            read_series(tmp_path / "cut.tif")
    assert capfd.readouterr().err == ""


def test_values_that_are_not_finite_are_not_written(tmp_path):
    frames = np.random.default_rng(0).random((3, 6, 7)).astype(np.float32)
    frames[1, 2, 3] = np.inf
    for name in ("a.nii.gz", "a.tif"):
        with pytest.raises(UserError, match="1 of 126 values are not finite"):
            write_series(tmp_path / name, Series(frames, np.eye(3)))
    assert not list(tmp_path.iterdir())


def test_a_two_dimensional_series_keeps_its_slice_axis(tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (3, 6, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(frames, 0, -1)[:, :, None], np.diag([2, 3, 1, 1])), tmp_path / "a.nii")
    series = read_series(tmp_path / "a.nii")
    np.testing.assert_array_equal(series.array, frames)
    assert series.num_axes == 2
    write_series(tmp_path / "b.nii", series)
    again = nibabel.load(tmp_path / "b.nii")
    assert again.shape == (6, 7, 1, 3)
    assert again.get_data_dtype() == np.int16
    np.testing.assert_allclose(np.diag(again.affine)[:2], [2, 3])
