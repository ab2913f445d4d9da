"""A user's mistakes with a template: one line, and nothing written."""

import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from air_jax import UserError, io
from air_jax.file_templates.options import Options, check_options
from air_jax.file_templates.run import build_template


@pytest.fixture
def folder(tmp_path):
    """Two pictures and their segmentations."""
    rng = np.random.default_rng(0)
    for kind, most in (("images", 255), ("labels", 3)):
        (tmp_path / kind).mkdir()
        for name in ("a", "b"):
            Image.fromarray(rng.integers(0, most, (12, 14)).astype(np.uint8)).save(tmp_path / kind / f"{name}.png")
    return tmp_path


def write_volume(folder):
    io.write_image(folder / "images" / "c.nii.gz", np.arange(64.0).reshape(4, 4, 4).astype(np.float32), np.eye(4))


def spoil(folder):
    (folder / "images" / "b.png").write_bytes(b"no picture")


def flatten(folder):
    Image.fromarray(np.full((12, 14), 9, np.uint8)).save(folder / "images" / "b.png")


def add_label(folder):
    shutil.copy(folder / "labels" / "a.png", folder / "labels" / "c.png")


def add_twin(folder):
    tifffile.imwrite(folder / "images" / "a.tif", np.eye(12, dtype=np.uint8), photometric="minisblack")


def add_prefix(folder):
    for kind in ("images", "labels"):
        shutil.copy(folder / kind / "a.png", folder / kind / "a_inverse.png")


def resize_label(folder):
    Image.fromarray(np.ones((5, 6), np.uint8)).save(folder / "labels" / "b.png")


MISTAKES = {
    "one image": (lambda folder: (folder / "images" / "b.png").unlink(), "has 1 image"),
    "no image": (lambda folder: [path.unlink() for path in (folder / "images").iterdir()], "has 0 image"),
    "other axes": (write_volume, r"c\.nii\.gz: has 3 axes, but .*a\.png 2|labels.*has no segmentation of .*c\.nii"),
    "unreadable": (spoil, r"b\.png: damaged"),
    "constant": (flatten, r"b\.png: is constant"),
    "label without image": (add_label, r"c\.png: belongs to no image"),
    "image without label": (lambda folder: (folder / "labels" / "b.png").unlink(), r"has no segmentation of .*b\.png"),
    "label of another size": (resize_label, r"b\.png: has shape \(5, 6\)"),
    "two files of one name": (add_twin, r"a\.png and a\.tif|a\.tif and a\.png"),
    "two results of one name": (add_prefix, "two results would be named a_inverse_displacement"),
}


@pytest.mark.parametrize(("spoiled", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_bad_folder_is_one_line_and_nothing_is_written(folder, spoiled, message):
    spoiled(folder)
    with pytest.raises(UserError, match=message) as error:
        build_template(Options(folder / "images", folder / "out", labels=folder / "labels"))
    assert "\n" not in str(error.value)
    assert not (folder / "out").exists()


def test_images_of_other_axes_are_refused_without_labels(folder):
    write_volume(folder)
    with pytest.raises(UserError, match=r"c\.nii\.gz: has 3 axes, but .*a\.png 2"):
        build_template(Options(folder / "images", folder / "out"))


def test_a_reference_of_other_axes_is_refused(folder):
    write_volume(folder)
    (folder / "images" / "c.nii.gz").rename(folder / "c.nii.gz")
    with pytest.raises(UserError, match=r"--reference=.*has 3 axes, the images have 2"):
        build_template(Options(folder / "images", folder / "out", reference=folder / "c.nii.gz"))


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"start": "middle"}, "--start=middle"),
        ({"affine": "bent"}, "--affine=bent"),
        ({"similarity": "best"}, "--similarity=best"),
        ({"normalization": "best"}, "--normalization=best"),
        ({"affine_rounds": -1}, "--affine_rounds=-1"),
        ({"rounds": -1}, "--rounds=-1"),
        ({"rounds": 0, "affine_rounds": 0}, "nothing is registered"),
        ({"refine_steps": 0}, "--refine_steps=0"),
        ({"smoothness": float("nan")}, "--smoothness=nan"),
    ],
)
def test_a_wrong_option_names_its_flag(folder, changes, flag):
    with pytest.raises(UserError, match=flag):
        check_options(Options(folder / "images", folder / "out", **changes))


def test_folders_that_are_none_or_are_read_are_refused(folder):
    with pytest.raises(UserError, match=r"--images=.*not found"):
        check_options(Options(folder / "absent", folder / "out"))
    with pytest.raises(UserError, match=r"--images=.*is a file"):
        check_options(Options(folder / "images" / "a.png", folder / "out"))
    with pytest.raises(UserError, match="its images are read"):
        check_options(Options(folder / "images", folder / "images"))
