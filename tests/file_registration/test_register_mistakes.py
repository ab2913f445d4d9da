"""What `python -m air_jax.register` does not take: one line that says so, and nothing written."""

import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from helpers import REPOSITORY

from air_jax import UserError, io
from air_jax.file_registration.run import Options, register_files


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    """A folder of a pair of volumes with their labels and landmarks, and of files that do not fit them."""
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
    (folder / "image.mhd").write_text("ObjectType = Image")
    (folder / "broken.nii.gz").write_bytes(b"no gzip")
    (folder / "file").write_text("")
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fixed": "nowhere.nii.gz"}, "nowhere.nii.gz: not found"),
        ({"moving": "image.mhd"}, "image.mhd: unknown kind of image; its name must end in"),
        ({"moving": "broken.nii.gz"}, "broken.nii.gz: damaged, or not a NIfTI image"),
        ({"moving": "picture.png"}, "fixed.nii.gz has 3 axes and"),
        ({"moving": "constant.nii.gz"}, "constant.nii.gz: is constant; there is nothing to register"),
        ({"moving": "thin.nii.gz"}, "thin.nii.gz: has shape (8, 2, 9); give at least 3 voxels"),
        ({"labels": "short_labels.nii.gz"}, "short_labels.nii.gz: has shape (23, 17, 15), but"),
        ({"labels": "half_labels.nii.gz"}, "half_labels.nii.gz: has values that are no integers"),
        ({"labels": "elsewhere_labels.nii.gz"}, "elsewhere_labels.nii.gz: lies elsewhere in space than"),
        ({"fixed_labels": "fixed_labels.nii.gz"}, "--fixed_labels needs --labels"),
        (
            {"landmarks": "moving.csv", "fixed_landmarks": "three.csv"},
            "--fixed_landmarks has 3 points and --landmarks 4",
        ),
        ({"fixed_landmarks": "three.csv"}, "--fixed_landmarks needs --landmarks"),
        ({"landmarks": "flat.csv"}, "flat.csv: has points of 2 numbers"),
        ({"similarity": "nope"}, "--similarity=nope: must be one of mse, ncc, lncc"),
        ({"affine": "nope"}, "--affine=nope: must be one of none, translation, rigid, similarity, affine"),
        ({"field": "nope"}, "--field=nope: must be one of dense, control_grid, velocity"),
        ({"normalization": "nope"}, "--normalization=nope: must be one of range, percentile, foreground, ct"),
        ({"fixed": "wide.nii.gz", "normalization": "range"}, "wide.nii.gz: has values from"),
        ({"refine_steps": -1}, "--refine_steps=-1: must not be negative"),
        ({"output_dir": "file"}, "--output_dir="),
    ],
)
def test_a_mistake_is_told_in_one_line_before_anything_is_written(mistakes, tmp_path, options, message):
    given = {"fixed": "fixed.nii.gz", "moving": "moving.nii.gz", **options}
    paths = ("fixed", "moving", "labels", "fixed_labels", "landmarks", "fixed_landmarks", "output_dir")
    given = {name: mistakes / value if name in paths else value for name, value in given.items()}
    with pytest.raises(UserError) as error:
        register_files(Options(**{"output_dir": tmp_path / "out", **given}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert (mistakes / "file").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fixed={}/fixed.nii.gz", "--output_dir={out}"], "air_jax: --moving must be given"),
        (
            ["--fixed={}/fixed.nii.gz", "--moving={}/nowhere.nii.gz", "--output_dir={out}"],
            "nowhere.nii.gz: not found; give a NIfTI image",
        ),
        (
            ["--fixed={}/fixed.nii.gz", "--moving={}/moving.nii.gz", "--output_dir={}/file"],
            "/file: is a file; give a folder",
        ),
        (
            ["--fixed={}/fixed.nii.gz", "--moving={}/moving.nii.gz", "--output_dir={out}", "--refine_steps=few"],
            "--refine_steps",
        ),
    ],
)
def test_the_command_ends_in_one_line(mistakes, tmp_path, arguments, message):
    arguments = [argument.format(mistakes, out=tmp_path / "out") for argument in arguments]
    result = subprocess.run(
        [sys.executable, "-m", "air_jax.register", *arguments],
        cwd=REPOSITORY,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert message in result.stderr
    # absl adds a second line, on --help, to its own message about a value of the wrong type.
    assert len(result.stderr.strip().splitlines()) <= 1 + ("few" in arguments[-1])
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
