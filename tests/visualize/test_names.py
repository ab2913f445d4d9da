r"""Names of files and data sets are drawn as they are: `$` begins no formula, bytes that are not UTF-8 are escaped."""

import matplotlib
import numpy as np
import pytest

from air_jax.visualize import registration_figure, report_figure, segmentation_figure

NAMES = [
    ("a$b.nii", "a$b.nii"),
    ("$$", "$$"),
    ("$x_1^{2$ and $\\frac{", "$x_1^{2$ and $\\frac{"),
    ("a_b\\c.nii.gz", "a_b\\c.nii.gz"),
    ("caf\udce9 \udcff$.nii", "caf\\udce9 \\udcff$.nii"),
    ("größe µ.png", "größe µ.png"),
    ("line\nbreak$", "line\nbreak$"),
]


def figures(name):
    rng = np.random.default_rng(0)
    images, displacement = rng.random((3, 6, 7, 1), np.float32), rng.random((6, 7, 2), np.float32)
    yield report_figure(*images[..., 0], displacement, spacing=(1, 1), title=name, scores={"before": {name: 0.5}})
    yield registration_figure(*images[:, None], displacement[None], name)
    yield segmentation_figure(images, *rng.integers(0, 3, (2, 3, 6, 7)), name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shown"), NAMES)
def test_a_name_is_drawn_as_it_is(name, shown):
    report, run, segmentations = figures(name)
    assert report.get_suptitle() == shown
    assert shown in report.texts[-1].get_text()
    assert run.get_suptitle().startswith(f"{shown}\n")
    assert segmentations.get_suptitle() == shown
    for figure in (report, run, segmentations):
        figure.draw_without_rendering()
        assert not any(text.get_parse_math() for text in figure.texts)


def test_a_name_is_not_given_to_latex():
    with matplotlib.rc_context({"text.usetex": True}):
        for figure in figures("$$"):
            assert not any(text.get_usetex() for text in figure.texts)
