"""The page of a registration: its data are the arrays, in the planes and order of a radiologist."""

import base64
import io
import json
import re

import nibabel
import numpy as np
import pytest
from helpers import oblique_affine
from PIL import Image

from air_jax.transforms import jacobian_determinant
from air_jax.visualize import report_figure, report_page
from air_jax.visualize.anatomy import body_axes

SCORES = {"before": {"dice": 0.5, "dice_7": 0.25, "hd95_mm": None}, "after": {"dice": 0.75, "dice_7": 0.5}}
LPS = np.diag([-1.0, -1, 1, 1])  # nibabel's RAS to ours


def page(arrays, affine=None, **options):
    """Returns the content of the page's data element."""
    shape = arrays[0].shape
    given = {"spacing": np.ones(len(shape)), "title": "t", "scores": SCORES, "facts": {}, "affine": affine, **options}
    text = report_page(*arrays, np.ones(shape, np.float32), **given)
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def tile(plane, name, slice_index):
    """Returns one slice as the page cuts it out, `[H, W]`."""
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(plane["images"][name].split(",")[1]))))
    row, column = divmod(slice_index, plane["columns"])
    height, width = plane["height"], plane["width"]
    return sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]


def bright_corner(axcodes):
    """Returns a volume that is bright where the patient's left, back and head are, and its affine."""
    ras = nibabel.orientations.axcodes2ornt(axcodes)
    array = np.zeros((8, 10, 12), np.float32)
    array[5:, 6:, 8:] = 1  # with the axes R, A, S: right, front, head
    array = nibabel.orientations.apply_orientation(
        array[::-1, ::-1], nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), ras)
    )
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(ras):
        affine[int(world), axis] = sign
    affine[3, 3] = 1
    return np.ascontiguousarray(array), LPS @ affine


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "LIA", "PSR", "AIL"])
def test_every_header_gives_the_same_radiological_planes(axcodes):
    array, affine = bright_corner(axcodes)
    assert body_axes(affine).tilt == pytest.approx(0, abs=1e-4)
    planes = {plane["name"]: plane for plane in page((array,) * 3, affine)["planes"]}
    # Left is on the right of the page; the back is below in the axial and to the right in the sagittal plane.
    bright = {"axial": (0.9, 0.9), "coronal": (0.1, 0.9), "sagittal": (0.1, 0.9)}
    assert {name: plane["letters"] for name, plane in planes.items()} == {
        "axial": "RLAP",
        "coronal": "RLSI",
        "sagittal": "APSI",
    }
    for name, (down, across) in bright.items():
        shown = tile(planes[name], "fixed", planes[name]["start"])
        height, width = shown.shape
        assert shown[int(down * height), int(across * width)] > 200, name
        assert shown[int((1 - down) * height), int(across * width)] < 50, name
        assert shown[int(down * height), int((1 - across) * width)] < 50, name


def test_the_turned_displacement_is_that_of_the_turned_volume():
    """Determinants do not change, and points go where they went."""
    displacement = np.random.default_rng(0).normal(scale=0.2, size=(5, 6, 7, 3)).astype(np.float32)
    body = body_axes(LPS @ np.array([[0, 0, -2, 5], [3, 0, 0, 1], [0, -1, 0, 2], [0, 0, 0, 1.0]]))
    turned = body.turn_displacement(displacement)
    assert turned.shape == (7, 5, 6, 3)
    before, after = (np.asarray(jacobian_determinant(field[None]))[0] for field in (displacement, turned))
    np.testing.assert_allclose(body.turn(before), after, rtol=1e-5)
    # Axis 2 of the array runs to the patient's right against x, axis 0 to the back, axis 1 downwards.
    assert body.order == (2, 0, 1)
    for position in ((0, 0, 0), (3, 2, 4)):
        index = body.turn(np.arange(5 * 6 * 7).reshape(5, 6, 7))[position]
        moved = displacement.reshape(-1, 3)[index]
        signs = np.where(body.flipped, -1, 1)
        np.testing.assert_array_equal(turned[position], signs * moved[[2, 0, 1]])


def test_an_oblique_volume_keeps_its_planes_and_says_its_angle():
    affine = oblique_affine(3)
    codes = nibabel.aff2axcodes(LPS @ affine)
    body = body_axes(affine)
    names = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    assert [names[codes[axis]] for axis in body.order] == [0, 1, 2]
    assert [codes[axis] for axis in body.order] == [
        "RAI"[world] if flip else "LPS"[world] for world, flip in enumerate(body.flipped)
    ]
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    angles = np.degrees(np.arccos(np.abs(directions).max(axis=0)))
    assert body.tilt == pytest.approx(angles.max())


def test_slices_are_those_of_the_array_in_true_proportions():
    array = np.zeros((30, 20, 10), np.float32)
    array[:, :, 4] = 1
    (plane, *_) = page((array,) * 3, spacing=[1, 3, 2])["planes"]
    assert plane["letters"] == ""
    assert plane["height"] / plane["width"] == pytest.approx(2, rel=0.01)
    assert plane["labels"][4] == "axis 2 = 4"
    assert [tile(plane, "after", index).mean() > 128 for index in range(10)] == [index == 4 for index in range(10)]


def test_a_picture_is_one_slice_with_rows_down_in_its_colours():
    picture = np.zeros((12, 16, 3), np.float32)
    picture[:6, :8] = 1, 0, 0
    text = report_page(
        *(picture,) * 3, np.ones((12, 16)), spacing=(1, 1), title="t", is_picture=True, scores=SCORES, facts={}
    )
    content = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    (plane,) = content["planes"]
    shown = tile(plane, "fixed", 0)
    assert shown.shape == (12, 16, 3)
    np.testing.assert_allclose(shown[2, 2], [254, 0, 0], atol=20)
    assert shown[9, 12].max() < 20
    assert len(plane["labels"]) == 1


def test_text_of_users_is_data_and_scores_are_split_by_label():
    content = page(
        (np.eye(8, dtype=np.float32),) * 3, title="</script><b>$x$\udcff", facts={"Options": {"<i>": "</script>"}}
    )
    assert content["title"] == r"</script><b>$x$\udcff"
    assert content["tables"] == [
        {
            "name": "Scores",
            "columns": ["", "before", "after"],
            "rows": [["dice", "0.5", "0.75"], ["hd95_mm", "", ""]],
            "folded": False,
        },
        {
            "name": "Scores of each label",
            "columns": ["", "before", "after"],
            "rows": [["dice_7", "0.25", "0.5"]],
            "folded": True,
        },
        {"name": "Options", "columns": [], "rows": [["<i>", "</script>"]], "folded": False},
    ]


def test_the_figure_has_the_same_planes():
    array, affine = bright_corner("PSR")
    figure = report_figure(
        *(array,) * 3, np.zeros((*array.shape, 3), np.float32), spacing=(1, 1, 1), title="", affine=affine
    )
    rows = [figure.axes[index] for index in (0, 10, 20)]
    assert [axis.get_ylabel().split("\n")[0] for axis in rows] == ["axial", "coronal", "sagittal"]
    assert ["".join(text.get_text() for text in axis.texts) for axis in rows] == ["RLAP", "RLSI", "APSI"]
    shown = np.asarray(rows[0].images[0].get_array())
    assert shown[-1, -1] == 1
    assert shown[0, 0] == shown[0, -1] == shown[-1, 0] == 0
    assert rows[0].images[0].origin == "upper"
    assert rows[1].images[0].origin == "lower"
