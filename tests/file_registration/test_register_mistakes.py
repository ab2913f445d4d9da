"""Mistakes in the options and files of a registration: refused in one line, before anything is written."""

import numpy as np
import PIL.Image
import pytest

from air_jax import UserError, io
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    """Writes a pair of volumes with segmentations and landmarks, and files that do not fit them."""
    folder = tmp_path_factory.mktemp("mistakes")
    rng, affine = np.random.default_rng(0), np.diag([1.2, 1.4, 1.9, 1.0])
    for name, shape in (("fixed", (20, 18, 16)), ("moving", (24, 17, 15))):
        io.write_image(folder / f"{name}.nii.gz", rng.random(shape, np.float32), affine)
        io.write_image(folder / f"{name}_labels.nii.gz", rng.integers(0, 4, shape, np.uint8), affine)
    labels = io.read_image(folder / "moving_labels.nii.gz").array
    io.write_image(folder / "short_labels.nii.gz", labels[:-1], affine)
    io.write_image(folder / "half_labels.nii.gz", labels * np.float32(0.5), affine)
    elsewhere = affine.copy()
    elsewhere[0, 3] += 3
    io.write_image(folder / "elsewhere_labels.nii.gz", labels, elsewhere)
    io.write_image(folder / "constant.nii.gz", np.full((8, 9, 10), 7.0, np.float32), np.eye(4))
    io.write_image(folder / "thin.nii.gz", rng.random((8, 2, 9), np.float32), np.eye(4))
    io.write_image(folder / "wide.nii.gz", labels * np.float32(9), affine)
    landmarks = rng.uniform(3, 9, (4, 3))
    for name, points in (("moving", landmarks), ("three", landmarks[:3]), ("flat", landmarks[:, :2])):
        io.write_landmarks(folder / f"{name}.csv", points)
    PIL.Image.fromarray(rng.integers(0, 255, (20, 24), np.uint8)).save(folder / "picture.png")
    (folder / "image.vtk").write_text("ObjectType = Image")
    (folder / "broken.nii.gz").write_bytes(b"no gzip")
    (folder / "file").write_text("")
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixed": "nowhere.nii.gz"}, "nowhere.nii.gz: not found"),
        ({"moving": "image.vtk"}, "image.vtk: unknown kind of image; its name must end in"),
        ({"moving": "broken.nii.gz"}, "broken.nii.gz: damaged, or not a NIfTI image"),
        ({"moving": "picture.png"}, "fixed.nii.gz has 3 axes and"),
        ({"moving": "constant.nii.gz"}, "constant.nii.gz: is constant; there is nothing to register"),
        ({"moving": "thin.nii.gz"}, "thin.nii.gz: has shape (8, 2, 9); give at least 3 voxels"),
        ({"labels": "short_labels.nii.gz"}, "short_labels.nii.gz: has shape (23, 17, 15), but"),
        ({"labels": "half_labels.nii.gz"}, "half_labels.nii.gz: has values that are not whole numbers"),
        ({"labels": "elsewhere_labels.nii.gz"}, "elsewhere_labels.nii.gz: lies elsewhere in space than"),
        ({"fixed_labels": "fixed_labels.nii.gz"}, "--fixed_labels needs --labels"),
        (
            {"landmarks": "moving.csv", "fixed_landmarks": "three.csv"},
            "moving.nii.gz 4; give the same points for both",
        ),
        ({"fixed_landmarks": "three.csv"}, "--fixed_landmarks needs --landmarks"),
        ({"landmarks": "flat.csv"}, "flat.csv: has points of 2 numbers"),
        ({"similarity": "nope"}, "--similarity=nope: must be one of mse, ncc, lncc"),
        ({"affine": "nope"}, "--affine=nope: must be one of none, translation, rigid, similarity, affine"),
        ({"field": "nope"}, "--field=nope: must be one of dense, control_grid, velocity"),
        ({"normalization": "nope"}, "--normalization=nope: must be one of range, percentile, foreground, ct"),
        ({"fixed": "wide.nii.gz", "normalization": "range"}, "wide.nii.gz: image has values from"),
        ({"refine_steps": -1}, "--refine_steps=-1: must not be negative"),
        ({"output_dir": "file"}, "--output_dir="),
    ],
)
def test_a_mistake_is_refused_in_one_line_before_anything_is_written(mistakes, tmp_path, options, message):
    given = {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz", **options}
    paths = ("fixed", "moving", "labels", "fixed_labels", "landmarks", "fixed_landmarks", "output_dir")
    given = {name: mistakes / value if name in paths else value for name, value in given.items()}
    with pytest.raises(UserError) as error:
        register_files(Options(**{"output_dir": tmp_path / "out", **given}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert (mistakes / "file").read_text() == ""
