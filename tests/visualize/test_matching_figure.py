"""The figure of matching attention draws the window of the point's patch, at its place."""

import numpy as np
import pytest

from air_jax.visualize import matching_figure


def test_the_window_of_the_point_is_drawn_at_its_place():
    fixed, read = np.zeros((8, 12, 1)), [np.zeros((4, 6, 1)), np.zeros((8, 12, 1))]
    attention = [np.zeros((4, 6, 2, 9)), np.zeros((4, 6, 1, 9))]
    attention[0][2, 3, :, 8] = 0.25, 0.75  # offset (1, 1)
    attention[1][2, 3, 0, [1, 2]] = 0.4, 0.6  # offsets (-1, 0) and (-1, 1)
    figure = matching_figure(fixed, read, attention, (4, 6), stride=(1, 2), patch_size=(3, 6))
    seen = [np.asarray(axis.images[1].get_array()) for axis in figure.axes[2:]]
    np.testing.assert_allclose([seen[0][3, 4], seen[1][1, 3], seen[1][1, 4]], [0.5, 0.4, 0.6])
    assert np.count_nonzero(seen[0]) == 1
    assert figure.axes[2].images[1].get_extent() == [-0.5, 11.5, 7.5, -0.5]
    assert figure.axes[0].patches[0].get_bbox().bounds == (3.5, 1.5, 6, 6)  # pixels 4 to 9, 2 to 7
    assert figure.axes[3].patches[1].get_bbox().bounds == (7.5, 1.5, 2, 2)  # the largest: token (1, 4)


def test_offsets_out_of_the_image_are_drawn_at_the_border():
    attention = np.zeros((4, 4, 1, 9))
    attention[0, 0, 0, [0, 4]] = 0.3, 0.7
    image = np.zeros((4, 4, 1))
    figure = matching_figure(image, [image], [attention], (0, 0), stride=(1,), patch_size=(3,))
    assert figure.axes[1].images[1].get_array()[0, 0] == 1
    with pytest.raises(ValueError, match="lies outside"):
        matching_figure(image, [image], [attention], (4, 0), stride=(1,), patch_size=(3,))
