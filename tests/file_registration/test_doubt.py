"""Results that may be wrong are marked with the reason."""

import numpy as np
import PIL.Image
import pytest
from scipy.ndimage import gaussian_filter

from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Writes a textured disc on black, turned by a quarter and mirrored."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((48, 48)), 3)
    rows, columns = np.indices(noise.shape) - 23.5
    disc = np.where(np.hypot(rows, columns) < 20, 130 + 50 * noise / noise.std(), 0).clip(0, 255).astype(np.uint8)
    for name, picture in (("fixed", disc), ("turned", np.rot90(disc)), ("mirrored", disc[:, ::-1])):
        PIL.Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{name}.png")
    return folder


def register(pictures, moving, out, **options):
    paths = pictures / "fixed.png", pictures / f"{moving}.png", out
    # The affine is the program of test_affine_parts.py.
    return register_files(Options(*paths, refine_steps=0, **{"affine": "rigid"} | options))


def test_a_quarter_turn_is_found(pictures, tmp_path, without_report):
    scores = register(pictures, "turned", tmp_path)
    assert scores["before"]["ncc_overlap"] < 0.9
    assert scores["after"]["ncc_overlap"] > 0.98
    assert (scores["doubtful"], scores["doubts"]) == (False, [])


def test_a_mirrored_picture_is_doubtful(pictures, tmp_path, without_report, capsys):
    scores = register(pictures, "mirrored", tmp_path)
    assert scores["doubtful"]
    assert scores["doubts"] == ["the mirrored moving picture fits better; mirror it, or check the result"]
    assert f"doubtful: {scores['doubts'][0]}" in capsys.readouterr().out


def test_a_translation_starts_from_no_turn(pictures, tmp_path, without_report):
    scores = register(pictures, "turned", tmp_path, affine="translation")
    assert scores["after"]["ncc_overlap"] < 0.9
    assert not scores["doubtful"]
