"""The figure of matching attention draws the window of the point's patch, at its place."""

import numpy as np
import pytest

import air_jax
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


def test_a_volume_is_cut_through_the_point_and_attention_is_summed_along_the_cut_axis():
    fixed = np.arange(6 * 8 * 4.0).reshape(6, 8, 4, 1) / 192
    read = [fixed[::2, ::2, ::2], fixed]
    attention = [np.zeros((3, 4, 2, 1, 27)), np.zeros((3, 4, 2, 1, 27))]
    attention[0][2, 1, 0, 0, [13, 22]] = 0.3, 0.7  # offsets (0, 0, 0) and (1, 0, 0), which leads out of the volume
    attention[1][2, 1, 0, 0, [4, 16, 25]] = 0.2, 0.3, 0.5  # offsets (-1, 0, 0), (0, 1, 0) and (1, 1, 0)
    options = dict(stride=(1, 2), patch_size=(1, 2))
    figure = matching_figure(fixed, read, attention, (4, 3, 1), **options)
    upper, lower = figure.axes[:2], figure.axes[2:]
    np.testing.assert_array_equal(upper[0].images[0].get_array(), fixed[4, ..., 0])
    np.testing.assert_array_equal(lower[0].images[0].get_array(), read[0][2, ..., 0])
    np.testing.assert_array_equal(lower[1].images[0].get_array(), fixed[4, ..., 0])
    seen = [np.asarray(axis.images[1].get_array()) for axis in lower]
    np.testing.assert_allclose([seen[0][1, 0], seen[1][1, 0], seen[1][2, 0]], [1.0, 0.2, 0.8])
    figure = matching_figure(fixed, read, attention, (4, 3, 1), axis=2, **options)
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), fixed[:, :, 1, 0])
    seen = np.asarray(figure.axes[3].images[1].get_array())
    np.testing.assert_allclose([seen[1, 1], seen[2, 2]], [0.2, 0.8])  # the last axis has no offset here
    for mistake in (dict(axis=3), dict(axis=True)):
        with pytest.raises(air_jax.OptionError, match="axis"):
            matching_figure(fixed, read, attention, (4, 3, 1), **options, **mistake)
    with pytest.raises(ValueError, match="2-D or 3-D"):
        matching_figure(fixed, [read[0][0], fixed], attention, (4, 3, 1), **options)
