"""Landmark files: written points are read back, files of other programs are read, faulty files are refused."""

import numpy as np
import pytest
import SimpleITK
from helpers import oblique_affine, refused

from air_jax import io

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_written_landmarks_are_read_back_and_their_voxels_are_itks(tmp_path, num_axes):
    points = RNG.normal(size=(6, num_axes)) * 100
    io.write_landmarks(tmp_path / "points.csv", points)
    assert (tmp_path / "points.csv").read_text().startswith("x,y,z\n"[: 2 * num_axes - 1] + "\n")
    np.testing.assert_array_equal(io.read_landmarks(tmp_path / "points.csv"), points)
    affine = oblique_affine(num_axes)
    voxels = io.to_voxels(points, affine)
    np.testing.assert_allclose(io.to_physical(voxels, affine), points, rtol=1e-12)
    image = SimpleITK.Image([3] * num_axes, SimpleITK.sitkUInt8)
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
    theirs = [image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in points]
    np.testing.assert_allclose(voxels, theirs, atol=1e-9)
    with pytest.raises(ValueError, match="must be"):
        io.write_landmarks(tmp_path / "points.csv", points[0])


@pytest.mark.parametrize(
    ("text", "points"),
    [
        (",X,Y\n1,59,72\n2,122,108\n", [[59, 72], [122, 108]]),
        ("x,y,z,t,label,comment\n1,2,3,0,1,a;b\n4,5,6,0,2,c\n", [[1, 2, 3], [4, 5, 6]]),
        ("Z;name;Y;X\n3;a;2;1\n", [[1, 2, 3]]),
        ("\ufeffx\ty\r\n1.5\t-2e1\r\n\r\n", [[1.5, -20]]),
        ('"x", "y"\n 1 , 2\n', [[1, 2]]),
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1;2;3\n", [[1, 2, 3]]),
    ],
)
def test_landmark_files_of_other_programs_are_read(tmp_path, text, points):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8", newline="")
    read = io.read_landmarks(tmp_path / "points.csv")
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, points)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("\n\n", "no landmarks"),
        ("x,y\n", "no landmarks"),
        ("x,z\n1,2\n", "line 1: the header"),
        ("x,y,X\n1,2,3\n", "line 1: the header"),
        ("1,2,3,4\n", "line 1: has 4 numbers"),
        ("x,y\n1,2\n3\n", "line 3: has 1 columns"),
        ("x,y\n1,2\n\n3,four\n", "line 4: 'four' is not a number"),
        ("x,y\n1,nan\n", "line 2: 'nan'"),
        ("1,2\n3,\n", "line 2: ''"),
    ],
)
def test_a_faulty_landmark_file_is_refused_in_one_line(tmp_path, text, match):
    (tmp_path / "points.csv").write_text(text)
    refused(tmp_path / "points.csv", match, io.read_landmarks)


def test_an_unreadable_landmark_file_is_refused_in_one_line(tmp_path):
    refused(tmp_path / "points.csv", "not found", io.read_landmarks)
    (tmp_path / "points.csv").write_bytes(b"\xff\xfe\x00x\n" * 9)
    refused(tmp_path / "points.csv", "damaged, or not a text file", io.read_landmarks)
