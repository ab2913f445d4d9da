"""Results that may be wrong are marked with the reason."""

from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from air_jax.file_registration.doubt import turn
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.io import write_image

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


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Writes an egg that is nearly symmetric, as heads are, and the same with its axes permuted: turned, mirrored."""
    folder = tmp_path_factory.mktemp("volumes")
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((24, 24, 24)), 3)
    noise += 0.6 * noise[::-1]
    distance = np.linalg.norm((np.indices(noise.shape).T - 11.5) / (10, 8, 9), axis=-1).T
    egg = np.where(distance < 1, 130 + 50 * noise / noise.std(), 0).clip(0, 255).astype(np.uint8)
    moving = {"fixed": egg, "turned": egg.transpose(1, 2, 0), "mirrored": egg.transpose(1, 0, 2)}
    for name, volume in moving.items():
        write_image(folder / f"{name}.nii.gz", np.ascontiguousarray(volume), np.eye(4))
    return folder


@pytest.mark.parametrize("name", ["turned", "mirrored"])
def test_a_turned_volume_is_found_and_doubtful(volumes, tmp_path, without_report, name):
    paths = volumes / "fixed.nii.gz", volumes / f"{name}.nii.gz", tmp_path / "out"
    scores = register_files(Options(*paths, refine_steps=0, affine="rigid"))
    assert scores["after"]["ncc_overlap"] > 0.95
    if name == "turned":
        assert scores["doubts"] == ["the moving volume is turned by 120 degrees against its header; check the letters"]
    else:
        assert scores["doubts"][-1] == "the mirrored moving volume fits better; mirror it, or check the result"


def test_the_angle_of_a_turn_is_that_of_scipy():
    inputs = SimpleNamespace(
        fixed=SimpleNamespace(volume=SimpleNamespace(affine=np.diag([1.0, -2.0, 1.5, 1.0]))),
        moving=SimpleNamespace(volume=SimpleNamespace(affine=np.diag([-0.5, 1.0, 3.0, 1.0]))),
    )
    for angle in (0.0, 1e-3, 40.0, 179.9):
        physical = np.eye(4)
        physical[:3, :3] = Rotation.from_rotvec(angle * np.array([0.6, 0, 0.8]), degrees=True).as_matrix()
        physical[:3, :3] = physical[:3, :3] @ np.diag([1.1, 0.9, 1.0])
        start, found = (
            (np.linalg.inv(inputs.moving.volume.affine) @ each @ inputs.fixed.volume.affine)[:-1]
            for each in (np.eye(4), physical)
        )
        np.testing.assert_allclose(turn(inputs, start, found), angle, atol=1e-6)


def test_a_translation_starts_from_no_turn(pictures, tmp_path, without_report):
    scores = register(pictures, "turned", tmp_path, affine="translation")
    assert scores["after"]["ncc_overlap"] < 0.9
    assert not scores["doubtful"]
