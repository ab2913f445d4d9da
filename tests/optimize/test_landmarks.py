"""Affine maps fitted to landmarks, beside SimpleITK's initializer; landmarks that do not determine a map."""

import numpy as np
import pytest
import SimpleITK
from scipy.optimize import least_squares

from air_jax.errors import OptionError
from air_jax.optimize import fit_landmarks

ITK = {
    ("rigid", 2): SimpleITK.Euler2DTransform,
    ("rigid", 3): SimpleITK.VersorRigid3DTransform,
    ("affine", 2): lambda: SimpleITK.AffineTransform(2),
    ("affine", 3): lambda: SimpleITK.AffineTransform(3),
}


def points_of(num_axes, noise=0.3):
    """Points and the same points turned, scaled by 1.3 and moved, with noise."""
    rng = np.random.default_rng(num_axes)
    fixed, turn = rng.uniform(-20, 20, (7, num_axes)), np.linalg.qr(rng.standard_normal((num_axes, num_axes)))[0]
    turn[:, 0] *= np.sign(np.linalg.det(turn))
    return fixed, 1.3 * fixed @ turn.T + 5 + noise * rng.standard_normal(fixed.shape), turn


def itk_matrix(transform, num_axes):
    """`[N, N + 1]` of a linear transform, from the images of the corners."""
    corners = np.concatenate([np.zeros((1, num_axes)), np.eye(num_axes)])
    moved = np.array([transform.TransformPoint(corner.tolist()) for corner in corners])
    return np.concatenate([(moved[1:] - moved[0]).T, moved[:1].T], axis=1)


@pytest.mark.parametrize(("kind", "num_axes"), ITK)
def test_agrees_with_itk(kind, num_axes):
    fixed, moving, _ = points_of(num_axes)
    expected = SimpleITK.LandmarkBasedTransformInitializer(
        ITK[kind, num_axes](), fixed.ravel().tolist(), moving.ravel().tolist()
    )
    expected = itk_matrix(expected, num_axes)
    np.testing.assert_allclose(fit_landmarks(fixed, moving, kind=kind), expected, atol=1e-6)


def test_a_similarity_has_the_least_squares_of_scipy():
    """ITK's scale is the ratio of the spreads, which is not that of the least squares."""
    fixed, moving, _ = points_of(2)

    def residuals(parameters):
        cosine, sine, *offset = parameters
        return (fixed @ np.array([[cosine, sine], [-sine, cosine]]) + offset - moving).ravel()

    cosine, sine, *offset = least_squares(residuals, [1, 0, 0, 0]).x
    expected = [[cosine, -sine, offset[0]], [sine, cosine, offset[1]]]
    np.testing.assert_allclose(fit_landmarks(fixed, moving, kind="similarity"), expected, atol=1e-6)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_a_similarity_is_found_exactly_and_a_translation_is_the_mean(num_axes):
    fixed, moving, turn = points_of(num_axes, noise=0)
    expected = np.concatenate([1.3 * turn, np.full((num_axes, 1), 5.0)], axis=1)
    for kind in ("similarity", "affine"):
        np.testing.assert_allclose(fit_landmarks(fixed, moving, kind=kind), expected, atol=1e-10)
    mean = (moving - fixed).mean(axis=0)[:, None]
    expected = np.concatenate([np.eye(num_axes), mean], axis=1)
    np.testing.assert_allclose(fit_landmarks(fixed, moving, kind="translation"), expected, atol=1e-12)


def test_a_rotation_does_not_mirror():
    fixed = points_of(3)[0]
    matrix = fit_landmarks(fixed, fixed * [-1, 1, 1], kind="rigid")[:, :-1]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
def test_restricted_axes_keep_their_coordinate(kind):
    fixed, moving, _ = points_of(3)
    matrix = fit_landmarks(fixed, moving, kind=kind, restrict=(1, 0, 1))
    np.testing.assert_array_equal(matrix[1], [0, 1, 0, 0])
    if kind == "affine":  # its rows are fitted one by one
        np.testing.assert_allclose(matrix[[0, 2]], fit_landmarks(fixed, moving)[[0, 2]])
    else:
        plane = fit_landmarks(fixed[:, [0, 2]], moving[:, [0, 2]], kind=kind)
        np.testing.assert_allclose(matrix[np.ix_([0, 2], [0, 2, 3])], plane)


LINE = np.outer(np.arange(5.0), [1.0, 2.0, 3.0])
PLANE = np.concatenate([np.random.default_rng(0).random((6, 2)), np.zeros((6, 1))], axis=1)


@pytest.mark.parametrize(
    ("points", "kind", "message"),
    [
        (PLANE[:0], "translation", "0 landmarks do not determine a translation map; give at least 1"),
        (PLANE[:2], "rigid", r"2 landmark\(s\) do not determine a rigid map in 3-D; give at least 3"),
        (PLANE[:1, :2], "rigid", r"1 landmark\(s\) do not determine a rigid map in 2-D; give at least 2"),
        (PLANE[:2, :2], "affine", r"2 landmark\(s\) do not determine an affine map in 2-D; give at least 3"),
        (LINE, "rigid", "the landmarks lie on a line and do not determine a rigid map"),
        (LINE[:, :2], "affine", "the landmarks lie on a line and do not determine an affine map"),
        (PLANE, "affine", "the landmarks lie on a plane and do not determine an affine map"),
        (np.ones((4, 3)), "similarity", "the landmarks lie in one point and do not determine a similarity map"),
        (np.full((4, 3), np.nan), "rigid", "coordinates that are not finite"),
        (np.ones((4, 1)), "rigid", r"both must be \[K, 2\] or \[K, 3\]"),
    ],
)
def test_points_that_do_not_determine_a_map_are_refused(points, kind, message):
    with pytest.raises(ValueError, match=message) as error:
        fit_landmarks(points, points, kind=kind)
    assert "\n" not in str(error.value)


def test_wrong_options_and_flat_moving_points_are_refused():
    fixed = points_of(3)[0]
    with pytest.raises(OptionError, match="must be one of translation"):
        fit_landmarks(fixed, fixed, kind="nope")
    with pytest.raises(OptionError, match="must have 3 numbers, at least one of them 1"):
        fit_landmarks(fixed, fixed, kind="rigid", restrict=(0, 0, 0))
    with pytest.raises(ValueError, match="no invertible affine leads to them"):
        fit_landmarks(fixed, fixed * [1, 1, 0])
