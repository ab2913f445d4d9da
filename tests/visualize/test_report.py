"""The report of a registration: every panel shows its arrays in their place."""

import jax.numpy as jnp
import numpy as np
import pytest

from air_jax import metrics
from air_jax.transforms import corner_jacobian_determinant, jacobian_determinant
from air_jax.visualize import panels, report_figure

NUM_COLUMNS = 10
FIXED, MOVING, WARPED, BEFORE, AFTER, SQUARES, DIFFERENCE_BEFORE, DIFFERENCE_AFTER, GRID, JACOBIAN = range(NUM_COLUMNS)


def random_images(shape):
    return np.random.default_rng(0).random((3, *shape)).astype(np.float32)


def random_displacement(shape, scale=0.3):
    return (scale * np.random.default_rng(1).standard_normal((*shape, len(shape)))).astype(np.float32)


def report(shape, images=None, displacement=None, **options):
    """Returns the panels `[rows, columns]`, the figure, and its arrays."""
    images = random_images(shape) if images is None else images
    displacement = random_displacement(shape) if displacement is None else displacement
    options = {"spacing": (1,) * len(shape), "title": "a title"} | options
    figure = report_figure(*images, displacement, **options)
    num_panels = NUM_COLUMNS * (1 if len(shape) == 2 else 3)
    return np.array(figure.axes[:num_panels]).reshape(-1, NUM_COLUMNS), figure, images, displacement


def drawn(axis):
    return np.asarray(axis.images[0].get_array())


def marked(axis):
    """Returns the voxels (x, y) marked as folded."""
    return {tuple(point) for point in axis.collections[0].get_offsets().tolist()}


def test_a_picture_has_rows_down_and_each_panel_its_image():
    axes, figure, (fixed, moving, warped), _ = report((9, 12), is_picture=True)
    assert axes.shape == (1, NUM_COLUMNS)
    expected = {
        FIXED: fixed,
        MOVING: moving,
        WARPED: warped,
        BEFORE: np.stack([fixed, moving, fixed], axis=-1),
        AFTER: np.stack([fixed, warped, fixed], axis=-1),
        DIFFERENCE_BEFORE: fixed - moving,
        DIFFERENCE_AFTER: fixed - warped,
        GRID: 0.5 * moving,
    }
    for column, image in expected.items():
        np.testing.assert_array_equal(drawn(axes[0, column]), image, err_msg=str(column))
    for axis in axes[0, [FIXED, BEFORE, SQUARES, DIFFERENCE_AFTER, GRID]]:
        assert axis.images[0].get_extent() == [-0.5, 11.5, 8.5, -0.5]
    assert all(axis.get_xlim() == (-0.5, 11.5) and axis.get_ylim() == (8.5, -0.5) for axis in axes[0])
    assert "axis 0 x axis 1" in axes[0, 0].get_ylabel()
    assert axes[0, 0].get_xlabel() == "axis 1 →"
    assert figure.get_suptitle() == "a title"
    before, after = (axes[0, column].images[0].get_clim() for column in (DIFFERENCE_BEFORE, DIFFERENCE_AFTER))
    assert before == after == (-before[1], before[1])


def test_a_two_dimensional_volume_has_its_first_axis_to_the_right():
    axes, _, (fixed, *_), _ = report((9, 12), is_picture=False)
    np.testing.assert_array_equal(drawn(axes[0, FIXED]), fixed.T)
    assert axes[0, FIXED].images[0].origin == "lower"
    assert axes[0, FIXED].get_ylim() == (-0.5, 11.5)


@pytest.mark.slow
def test_a_volume_is_cut_through_the_middle_of_the_foreground():
    shape = (10, 12, 14)
    images = 0.01 * random_images(shape)
    images[0, 2:5, 6:9, 9:12] += 0.8
    axes, _, (fixed, moving, warped), _ = report(shape, images, spacing=(1, 1.5, 2))
    for row, take in zip(axes, (np.s_[:, :, 10], np.s_[:, 7], np.s_[3]), strict=True):
        for column, image in zip((FIXED, MOVING, WARPED), (fixed, moving, warped), strict=True):
            np.testing.assert_array_equal(drawn(row[column]), image[take].T)
    assert [row[0].get_ylabel().split("\n")[:2] for row in axes] == [
        ["axis 0 x axis 1", "axis 2 = 10"],
        ["axis 0 x axis 2", "axis 1 = 7"],
        ["axis 1 x axis 2", "axis 0 = 3"],
    ]
    for row, aspect in zip(axes, (1.5, 2, 2 / 1.5), strict=True):
        assert [axis.get_aspect() for axis in row] == pytest.approx([aspect] * NUM_COLUMNS)


@pytest.mark.parametrize("is_picture", [True, False])
def test_grid_lines_end_where_the_moving_image_is_read(is_picture):
    shape = (7, 9)
    axes, _, _, displacement = report(shape, is_picture=is_picture)
    lines = axes[0, GRID].collections[0].get_segments()
    assert len(lines) == 7 + 9
    ends = {tuple(np.round(point, 4)) for line in lines for point in (line[0], line[-1])}
    position = np.array([6, 0]) + displacement[6, 0]
    assert tuple(np.round(position[::-1] if is_picture else position, 4)) in ends


def test_grid_lines_of_a_volume_move_in_the_plane_at_equal_distances_in_mm():
    shape = (64, 62, 31)
    displacement = np.zeros((*shape, 3), np.float32) + np.array([1, 2, 3], np.float32)
    axes, _, _, _ = report(shape, displacement=displacement, spacing=(1, 1, 2))
    for row, shift in zip(axes, ((1, 2), (1, 3), (2, 3)), strict=True):
        lines = row[GRID].collections[0].get_segments()
        np.testing.assert_array_equal(np.min([line[0] for line in lines], axis=0), shift)
    lines = axes[1, GRID].collections[0].get_segments()
    assert [lines[1][0, 1] - lines[0][0, 1], lines[-1][0, 0] - lines[-2][0, 0]] == [1, 2]


@pytest.mark.parametrize("is_picture", [True, False])
def test_folds_are_marked_at_their_voxels(is_picture):
    shape = (9, 12)
    displacement = np.zeros((*shape, 2), np.float32)
    displacement[3, 6] = 0, 1.5  # beyond its neighbour on the right
    axes, _, _, _ = report(shape, displacement=displacement, is_picture=is_picture)
    folded = {(3, 6), (3, 7)}
    assert marked(axes[0, JACOBIAN]) == ({(x, y) for y, x in folded} if is_picture else folded)
    assert axes[0, JACOBIAN].get_xlabel() == "2 of 70 fold"
    extent = (0.5, 10.5, 7.5, 0.5) if is_picture else (0.5, 7.5, 0.5, 10.5)
    assert tuple(axes[0, JACOBIAN].images[0].get_extent()) == extent


@pytest.mark.slow
def test_the_jacobian_determinant_of_a_plane_is_that_of_the_volume():
    shape = (8, 9, 10)
    images = np.ones((3, *shape), np.float32)  # without foreground the plane is in the middle
    axes, _, _, displacement = report(shape, images)
    folded = np.asarray(corner_jacobian_determinant(displacement[None]))[0] <= 0
    determinant = np.asarray(jacobian_determinant(displacement[None]))[0]
    point = [int(row[0].get_ylabel().split("\n")[1].split()[-1]) for row in axes[::-1]]
    assert point == [4, 4, 4]
    assert folded.any()
    for row, take in zip(axes, (np.s_[:, :, 3], np.s_[:, 3], np.s_[3]), strict=True):
        assert marked(row[JACOBIAN]) == {tuple(index + 1) for index in np.argwhere(folded[take])}
        shown = drawn(row[JACOBIAN])
        low, high = row[JACOBIAN].images[0].get_clim()
        assert low == pytest.approx(1 / high)
        np.testing.assert_allclose(shown, np.clip(determinant[take].T, low, high), rtol=1e-5)


def test_colours_are_kept_and_their_difference_is_grey():
    axes, _, (fixed, moving, warped), _ = report((9, 12), random_images((9, 12, 3)), is_picture=True)
    np.testing.assert_array_equal(drawn(axes[0, WARPED]), warped)
    np.testing.assert_allclose(drawn(axes[0, DIFFERENCE_BEFORE]), fixed.mean(-1) - moving.mean(-1), atol=1e-6)
    assert drawn(axes[0, SQUARES]).shape == (9, 12, 3)


def test_squares_alternate_and_have_equal_sides_in_mm():
    board = panels.checkerboard(np.ones((16, 16)), np.zeros((16, 16)), np.array([1.0, 2.0]))
    np.testing.assert_array_equal(board[:8, 0], [1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(board[0, :4], [1, 1, 0, 0])


def test_large_planes_are_reduced_and_keep_their_position_and_folds():
    plane = np.zeros((1030, 600))
    plane[1029, 599] = 1
    small, steps = panels.shrink(plane, np.any)
    assert (small.shape, steps) == ((344, 300), (3, 2))
    assert np.argwhere(small).tolist() == [[343, 299]]
    np.testing.assert_allclose(panels.shrink(plane[:1028], np.mean)[0], 0)
    displacement = np.zeros((600, 8, 2), np.float32)
    displacement[301, 4] = 1.5, 0
    axes, _, _, _ = report((600, 8), displacement=displacement, is_picture=True)
    assert axes[0, FIXED].images[0].get_extent() == [-0.5, 7.5, 599.5, -0.5]
    assert drawn(axes[0, FIXED]).shape == (300, 8)
    assert marked(axes[0, JACOBIAN]) == {(4, 301.5)}  # 301 and 302 share a block of two rows
    assert axes[0, JACOBIAN].get_xlabel().startswith("2 of")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 3), (3, 20), (3, 3, 3), (20, 3, 9)])
@pytest.mark.parametrize("value", [0, 1])
def test_constant_and_tiny_images_can_be_drawn(shape, value):
    images = jnp.full((3, *shape), value, jnp.float32)
    _, figure, _, _ = report(shape, images, jnp.zeros((*shape, len(shape))))
    figure.draw_without_rendering()


def test_scores_are_a_table_of_limited_length():
    scores = {"before": {"dice": 0.5}, "after": {"dice": 0.75} | {f"score_{index}": index for index in range(12)}}
    _, figure, _, _ = report((5, 5), scores=scores)
    lines = [line.split() for line in figure.texts[-1].get_text().split("\n")]
    assert lines[:3] == [["score", "before", "after"], ["dice", "0.5", "0.75"], ["score_0", "0"]]
    assert lines[-2:] == [["score_10", "10"], ["..."]]
    assert figure.get_size_inches()[0] <= 20


def test_fold_marks_are_the_scored_folds():
    shape = (20, 20)
    axes, _, _, displacement = report(shape, is_picture=True)
    percent = float(metrics.any_corner_folding_percent(displacement[None])[0])
    assert len(marked(axes[0, JACOBIAN])) == pytest.approx(percent / 100 * 18 * 18)
