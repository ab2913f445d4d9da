"""Landmark files: written points are read back, files of other programs are read, faulty files are refused."""

import numpy as np
import pytest
import SimpleITK
from helpers import oblique_affine, refused

from air_jax import UserError, io

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
    with pytest.raises(UserError, match=f"1 of {points.size} coordinates are not finite"):
        io.write_landmarks(tmp_path / "new.csv", np.where(points == points[0, 0], np.nan, points))
    assert not (tmp_path / "new.csv").exists()


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
        ("1 2  3\n4 5 6\n", [[1, 2, 3], [4, 5, 6]]),
        ("19\t26\t13\t\n26\t16\t18\t\n", [[19, 26, 13], [26, 16, 18]]),
        ("0,7.5,8,9\n1,1,2,3\n", [[7.5, 8, 9], [1, 2, 3]]),
        ("1;7.5;8;9\n2;1;2;3\n3;4;5;6\n", [[7.5, 8, 9], [1, 2, 3], [4, 5, 6]]),
        ("+1.,-.5\n1E2,1e-2\n", [[1, -0.5], [100, 0.01]]),
        ("x [mm],y [mm],z [mm]\n1,2,3\n", [[1, 2, 3]]),
        ("y(mm)\tX_mm\n2\t1\n", [[1, 2]]),
        ("Image;Class;Centroid X px;Centroid Y px\na.svs;p;18.2;25.2\n", [[18.2, 25.2]]),
        ("Image\tCentroid X \u00b5m\tCentroid Y \u00b5m\na.svs\t1500\t250\n", [[1.5, 0.25]]),
        ("x [\u03bcm],y [\u03bcm]\n1500,250\n", [[1.5, 0.25]]),
        ("label,r,a,s,defined,selected\nF-0,1,2,3,1,1\n", [[-1, -2, 3]]),
        ("label,l,p,s,defined,selected\nF-0,1,2,3,1,1\n", [[1, 2, 3]]),
    ],
)
def test_landmark_files_of_other_programs_are_read(tmp_path, text, points):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8", newline="")
    read = io.read_landmarks(tmp_path / "points.csv")
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, points)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_usual_encodings_are_read(tmp_path, encoding):
    text = "x,y,gr\u00f6\u00dfe,Centroid \u00b5\n1,2,3,4\n"
    (tmp_path / "points.csv").write_bytes(text.encode(encoding))
    np.testing.assert_array_equal(io.read_landmarks(tmp_path / "points.csv"), [[1, 2]])


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
        ("1,2\n3,\n", "line 2: has 1 columns"),
        ("1,2\n,3\n", "line 2: ''"),
        ("x,y\n1,1_0\n", "line 2: '1_0' is not a number"),
        ("x,y\n1,1e999\n", "line 2: '1e999'"),
        ("x,y\n1,infinity\n", "line 2: 'infinity'"),
        ("x,y\n1,0x10\n", "line 2: '0x10'"),
        ("x,y\n1,\u0661\n", "line 2: '\u0661'"),
        ("x;y\n1,5;2,5\n", "line 2: '1,5'"),
        ("1,2\n3,1_0\n", "line 2: '1_0'"),
        ("nan,2\n3,4\n", "line 1: the header"),
        ("1,59,72\n2,122,108\n", "line 1: the first numbers may be an index or x"),
        ("1,2,3,4\n3,2,3,4\n", "line 1: has 4 numbers"),
        ("1,2,3,4,5\n2,2,3,4,5\n", "line 1: has 5 numbers"),
        ("x [mm],y [px]\n1,2\n", "once each, in one unit"),
        ("x,Centroid X px,y\n1,2,3\n", "once each"),
        ("r,a\n1,2\n", "line 1: the header"),
        ("label,r,a,s,defined,selected\nF-0,1,2,3,0,1\n", "line 2: its position is not defined"),
    ],
)
def test_a_faulty_landmark_file_is_refused_in_one_line(tmp_path, text, match):
    (tmp_path / "points.csv").write_text(text, encoding="utf-8")
    refused(tmp_path / "points.csv", match, io.read_landmarks)


def test_an_unreadable_landmark_file_is_refused_in_one_line(tmp_path):
    refused(tmp_path / "points.csv", "not found", io.read_landmarks)
    (tmp_path / "points.csv").write_bytes(b"\xff\xfe\x00x\n" * 9)
    refused(tmp_path / "points.csv", "damaged, or not a text file", io.read_landmarks)


def test_points_outside_of_the_field_of_view_are_counted():
    affine, shape = oblique_affine(3), (7, 6, 5)
    voxels = np.array([[-0.49, 0, 0], [6.49, 5.49, 4.49], [3, 3, 4.51], [-0.51, 3, 3], [3, 3, 3]])
    points, volume = io.to_physical(voxels, affine), io.Volume(np.zeros(shape), affine)
    assert io.count_outside(points, volume) == 2
    image = SimpleITK.Image(shape, SimpleITK.sitkUInt8)
    spacing = np.linalg.norm(affine[:-1, :-1], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:-1, -1].tolist())
    image.SetDirection((affine[:-1, :-1] / spacing).ravel().tolist())
    indices = np.array([image.TransformPhysicalPointToIndex(point.tolist()) for point in points])
    assert np.count_nonzero(((indices < 0) | (indices >= shape)).any(axis=-1)) == 2
