"""Landmark files of 3D Slicer: read in their own coordinate system; anything but one list of points is refused."""

import json

import numpy as np
import pytest
from helpers import refused

from air_jax import UserError, io

POINTS = np.array([[93.622, -110.415, -275.387], [79.643, -89.979, 1e-3]])


def fcsv(system="# CoordinateSystem = LPS\n", columns="id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"):
    """The file that Slicer writes, with a comma in the last label."""
    return (
        f"# Markups fiducial file version = 4.11\n{system}# columns = {columns}\n"
        "vtkMRMLMarkupsFiducialNode_0,93.622,-110.415,-275.387,0,0,0,1,1,1,0,F-1,,\n"
        'vtkMRMLMarkupsFiducialNode_1,79.643,-89.979,1e-3,0,0,0,1,1,1,0,"F,2",,,2,0\n'
    )


def markups(*, markup=None, point=None, count=1):
    """The content of a markups file, with changes to the markup and to its first point."""
    controls = [{"id": str(i), "label": f"F-{i}", "position": position} for i, position in enumerate(POINTS.tolist())]
    controls[0] |= point or {}
    one = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": controls} | (markup or {})
    return {"@schema": "markups-schema-v1.0.3.json#", "markups": [one] * count}


@pytest.mark.parametrize(
    ("system", "signs"), [("LPS", [1, 1, 1]), ("1", [1, 1, 1]), ("RAS", [-1, -1, 1]), ("0", [-1, -1, 1])]
)
def test_fiducial_lists_are_read_in_their_coordinate_system(tmp_path, system, signs):
    (tmp_path / "f.fcsv").write_text(fcsv(f"# CoordinateSystem = {system}\n"))
    np.testing.assert_array_equal(io.read_landmarks(tmp_path / "f.fcsv"), POINTS * signs)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (fcsv(""), "has no line `# CoordinateSystem"),
        (fcsv("# CoordinateSystem = IJK\n"), "coordinate system is IJK"),
        (fcsv("# CoordinateSystem = 2\n"), "coordinate system is 2"),
        (fcsv(columns="id,r,a,s"), "columns are id, r, a, s"),
        (fcsv().replace(",2,0", ",0,0"), "line 5: its position is not defined"),
        (fcsv().replace("-110.415", "nan"), "line 4: 'nan' is not a number"),
        (fcsv() + "1,2\n", "line 6: has 2 columns"),
        ("# CoordinateSystem = LPS\n", "has no landmarks"),
    ],
)
def test_faulty_fiducial_lists_are_refused(tmp_path, text, match):
    (tmp_path / "f.fcsv").write_text(text)
    refused(tmp_path / "f.fcsv", match, io.read_landmarks)


@pytest.mark.parametrize(
    ("content", "signs"),
    [
        (markups(), [1, 1, 1]),
        (markups(markup={"coordinateSystem": "RAS"}), [-1, -1, 1]),
        (markups(markup={"coordinateUnits": ["mm", "mm", "mm"]}), [1, 1, 1]),
        (markups(markup={"type": "Curve"}, point={"positionStatus": "defined"}), [1, 1, 1]),
    ],
)
def test_markups_are_read_in_their_coordinate_system(tmp_path, content, signs):
    (tmp_path / "f.mrk.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(io.read_landmarks(tmp_path / "f.mrk.json"), POINTS * signs)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (markups(count=2), "has 2 markups"),
        (markups(count=0), "has 0 markups"),
        (markups(markup={"coordinateSystem": "IJK"}), "coordinate system is IJK"),
        (markups(markup={"coordinateSystem": None}), "coordinate system is None"),
        (markups(markup={"coordinateUnits": "um"}), "coordinateUnits are um"),
        (markups(markup={"controlPoints": []}), "has no landmarks"),
        (markups(markup={"controlPoints": [3]}), "point None has no defined position"),
        (markups(point={"positionStatus": "undefined"}), "point 'F-0' has no defined position"),
        (markups(point={"position": [1, 2]}), "point 'F-0' has no defined position"),
        (markups(point={"position": [1, 2, float("nan")]}), "point 'F-0' has nan"),
        (markups(point={"position": [1, 2, True]}), "point 'F-0' has True"),
        (markups(point={"position": [1, 2, "3"]}), "point 'F-0' has '3'"),
        ([1], "has no list `markups`"),
        ({"markups": [1]}, "has no list `markups`"),
    ],
)
def test_faulty_markups_are_refused(tmp_path, content, match):
    (tmp_path / "f.mrk.json").write_text(json.dumps(content))
    refused(tmp_path / "f.mrk.json", match, io.read_landmarks)


def test_a_text_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "f.mrk.json").write_text("x,y,z\n1,2,3\n")
    refused(tmp_path / "f.mrk.json", "damaged, or not a markups file", io.read_landmarks)


@pytest.mark.parametrize("suffix", [".fcsv", ".mrk.json"])
def test_written_files_are_read_back_and_are_in_lps(tmp_path, suffix):
    points = np.random.default_rng(0).normal(size=(5, 3)) * 100
    path = tmp_path / f"points{suffix}"
    io.write_landmarks(path, points)
    np.testing.assert_array_equal(io.read_landmarks(path), points)
    if suffix == ".fcsv":
        lines = path.read_text().splitlines()
        assert "# CoordinateSystem = LPS" in lines
        np.testing.assert_array_equal([[float(cell) for cell in line.split(",")[1:4]] for line in lines[3:]], points)
    else:
        (markup,) = json.loads(path.read_text())["markups"]
        assert (markup["type"], markup["coordinateSystem"]) == ("Fiducial", "LPS")
        np.testing.assert_array_equal([point["position"] for point in markup["controlPoints"]], points)
    with pytest.raises(UserError, match="hold 3-D points"):
        io.write_landmarks(path, points[:, :2])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
