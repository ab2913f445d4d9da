"""Mistakes in the options that guide a registration of files: one line, before anything is written."""

import numpy as np
import PIL.Image
import pytest

from air_jax import UserError, io
from air_jax.file_registration.guiding import Guiding
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files

FILES = ("rigid_region", "keep_volume", "guide_landmarks", "fixed_guide_landmarks")


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    """Writes a pair of small volumes, and masks and landmarks that do not fit them."""
    folder = tmp_path_factory.mktemp("guided_mistakes")
    rng, affine = np.random.default_rng(0), np.diag([1.2, 1.4, 1.9, 1.0])
    for name in ("fixed", "moving"):
        io.write_image(folder / f"{name}.nii.gz", rng.random((10, 9, 8), np.float32), affine)
    elsewhere = affine.copy()
    elsewhere[0, 3] = 400
    io.write_image(folder / "elsewhere.nii.gz", rng.random((10, 9, 8), np.float32), elsewhere)
    masks = {"empty": np.zeros((10, 9, 8)), "short": np.ones((9, 9, 8)), "two": np.full((10, 9, 8), 2.5)}
    border = np.zeros((10, 9, 8))
    border[0] = 1
    masks |= {"border": border, "many": np.arange(720).reshape(10, 9, 8), "negative": -np.ones((10, 9, 8))}
    for name, mask in masks.items():
        dtype = np.float32 if name == "two" else np.int16
        io.write_image(folder / f"{name}.nii.gz", mask.astype(dtype), affine)
    io.write_image(folder / "shifted.nii.gz", np.ones((10, 9, 8), np.uint8), elsewhere)
    points = rng.uniform(2, 8, (4, 3))
    tables = {"four": points, "three": points[:3], "one": points[:1], "flat": points[:, :2], "far": points + 900}
    tables["line"] = np.outer(np.arange(1, 5), [1.0, 1.0, 1.0])
    for name, table in tables.items():
        io.write_landmarks(folder / f"{name}.csv", table)
    (folder / "nan.csv").write_text("x,y,z\n1,2,nan\n3,4,5\n")
    PIL.Image.fromarray(rng.integers(0, 255, (20, 24), np.uint8)).save(folder / "picture.png")
    return folder


GUIDES = {"guide_landmarks": "four.csv", "fixed_guide_landmarks": "four.csv"}


@pytest.mark.parametrize(
    ("guiding", "message"),
    [
        ({"smoothness": -1.0}, "--smoothness=-1.0: must be a finite number, 0 or more"),
        ({"total_sigma": float("nan")}, "--total_sigma=nan: must be a finite number"),
        ({"regularizers": (("bending", float("inf")),)}, "--bending=inf: must be a finite number"),
        ({"smoothness": 2.0, "update_sigma": 1.0}, "--smoothness sets --update_sigma also; leave one of the two out"),
        ({"restrict": "1,1"}, "--restrict=1,1: has 2 numbers, the images have 3 axes"),
        ({"restrict": "1"}, "--restrict=1: must be 1 (may move) or 0 for each of x, y[, z]"),
        ({"restrict": "1,2,0"}, "--restrict=1,2,0: must be 1 (may move) or 0"),
        ({"restrict": "1,nan,0"}, "--restrict=1,nan,0: must be 1 (may move) or 0"),
        ({"restrict": "0,0,0"}, "--restrict=0,0,0: leaves no axis along which anything may move"),
        ({"rigid_region": "empty.nii.gz"}, "empty.nii.gz: is empty; bodies have labels above 0"),
        ({"rigid_region": "short.nii.gz"}, "short.nii.gz: has shape (9, 9, 8), but"),
        ({"rigid_region": "shifted.nii.gz"}, "shifted.nii.gz: lies elsewhere in space"),
        ({"rigid_region": "two.nii.gz"}, "two.nii.gz: has values that are not whole numbers"),
        ({"rigid_region": "many.nii.gz"}, "many.nii.gz: has 719 labels, each of them a body; give at most 32"),
        ({"rigid_region": "negative.nii.gz"}, "negative.nii.gz: has negative labels"),
        ({"rigid_region": "nowhere.nii.gz"}, "nowhere.nii.gz: not found"),
        ({"keep_volume": "empty.nii.gz"}, "empty.nii.gz: is empty"),
        ({"keep_volume": "short.nii.gz"}, "short.nii.gz: has shape (9, 9, 8), but"),
        ({"keep_volume": "two.nii.gz"}, "two.nii.gz: has values from 2.5 to 2.5; a mask has values in [0, 1]"),
        ({"keep_volume": "border.nii.gz"}, "border.nii.gz: has only voxels at the border"),
        ({"guide_landmarks": "four.csv"}, "are the same points in both images; give both"),
        ({**GUIDES, "guide_landmarks": "three.csv"}, "has 4 points and"),
        ({**GUIDES, "guide_landmarks": "flat.csv"}, "flat.csv: has points of 2 numbers"),
        ({**GUIDES, "guide_landmarks": "far.csv"}, "far.csv: all 4 points lie outside"),
        ({**GUIDES, "guide_landmarks": "nan.csv"}, "nan.csv"),
        ({**GUIDES, "guide_weight": -1.0}, "--guide_weight=-1.0: must be a finite number"),
        ({**GUIDES, "guide_weight": 0.0}, "--guide_weight=0: the landmarks would guide nothing"),
        ({**GUIDES, "guide_tolerance": float("nan")}, "--guide_tolerance=nan: must be a finite number"),
        ({"guide_tolerance": 1.0}, "--guide_tolerance needs --guide_landmarks"),
        ({"affine_from": "nope"}, "--affine_from=nope: must be one of images, landmarks"),
        ({"affine_from": "landmarks"}, "--affine_from=landmarks needs --guide_landmarks"),
        ({"colour": "red"}, "--colour=red: must be one of grey, channels"),
        ({"fixed_contrasts": ("fixed.nii.gz",)}, "--fixed names 2 image(s) and --moving 1"),
        ({"contrast_weights": "1,2"}, "--contrast_weights=1,2: has 2 weight(s) for 1 contrast(s)"),
        ({"contrast_weights": "-1"}, "--contrast_weights=-1: must be finite, 0 or more, and not all 0"),
        ({"contrast_weights": "0"}, "--contrast_weights=0: must be finite, 0 or more, and not all 0"),
        ({"contrast_weights": "nan"}, "--contrast_weights=nan: must be finite"),
        ({"contrast_weights": "a"}, "--contrast_weights=a: must be numbers, as in 1,0.5"),
        (
            {"fixed_contrasts": ("elsewhere.nii.gz",), "moving_contrasts": ("moving.nii.gz",)},
            "elsewhere.nii.gz: shows nothing of what",
        ),
        (
            {"fixed_contrasts": ("picture.png",), "moving_contrasts": ("moving.nii.gz",)},
            "picture.png: has 2 axes, and",
        ),
    ],
)
def test_a_mistake_is_refused_in_one_line(mistakes, tmp_path, guiding, message):
    check(mistakes, tmp_path, guiding, message)


@pytest.mark.parametrize(
    ("options", "guiding", "message"),
    [
        ({"stop_after": "affine"}, {"rigid_region": "border.nii.gz"}, "--rigid_region is of the deformation, before"),
        ({"refine_steps": 0}, {"smoothness": 2.0}, "--smoothness is of the optimised deformation; give --refine_steps"),
        ({"field": "velocity"}, {"smoothness": 2.0}, "--smoothness is of the dense field"),
        ({"workdir": "run"}, {"keep_volume": "border.nii.gz"}, "--keep_volume is of the optimised deformation"),
        ({"workdir": "run"}, {"colour": "channels"}, "--colour=channels: the model of --workdir compares grey images"),
        (
            {"affine": "none"},
            {**GUIDES, "affine_from": "landmarks"},
            "--affine_from=landmarks: no affine is registered",
        ),
    ],
)
def test_options_that_contradict_others_are_refused(mistakes, tmp_path, options, guiding, message):
    check(mistakes, tmp_path, guiding, message, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("points", "affine", "message"),
    [
        ("one", "rigid", "--affine_from=landmarks: 1 landmark(s) do not determine a rigid map in 3-D; give at least 3"),
        ("line", "rigid", "--affine_from=landmarks: the landmarks lie on a line and do not determine a rigid map"),
        ("three", "affine", "--affine_from=landmarks: 3 landmark(s) do not determine an affine map in 3-D"),
    ],
)
def test_landmarks_that_do_not_determine_the_affine_are_refused(mistakes, tmp_path, points, affine, message):
    files = dict.fromkeys(GUIDES, f"{points}.csv")
    check(mistakes, tmp_path, {**files, "affine_from": "landmarks"}, message, affine=affine, refine_steps=0)


def check(folder, tmp_path, guiding, message, **options):
    paths = {name: folder / value for name, value in guiding.items() if name in FILES}
    for name in ("fixed_contrasts", "moving_contrasts"):
        if name in guiding:
            paths[name] = tuple(folder / each for each in guiding[name])
    files = folder / "fixed.nii.gz", folder / "moving.nii.gz", tmp_path / "out"
    with pytest.raises(UserError) as error:
        register_files(Options(*files, guiding=Guiding(**guiding | paths), **options))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
