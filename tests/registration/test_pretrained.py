"""The models in the package: small, readable, described, and as good as their cards say."""

import numpy as np
import pytest

import air_jax
from air_jax import metrics
from air_jax.registration.pretrained import pretrained_folder, pretrained_names

MOST_BYTES, MOST_BYTES_TOGETHER = 2e6, 8e6


def test_shipped_models_are_small_readable_and_described():
    sizes = []
    for name in pretrained_names():
        folder = pretrained_folder(name)
        assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()))
        card = (folder / "README.md").read_text()
        assert f"# {name}\n" in card
        assert "Not stated." not in card
        assert air_jax.load_pretrained(name).step > 0
    assert "shapes-2d" in pretrained_names()
    assert max(sizes) < MOST_BYTES
    assert sum(sizes) < MOST_BYTES_TOGETHER


@pytest.mark.slow
def test_shapes_register_digits_in_both_contrasts():
    """Scikit-learn's digits, which train nothing."""
    digits = pytest.importorskip("air_jax.data.digits").load().images.images[:40] / np.float32(255)
    fixed, moving = digits[:20], digits[20:]
    registration = air_jax.load_pretrained("shapes-2d")
    before = dice(fixed, moving, np.zeros((*fixed.shape[:-1], 2), np.float32))
    assert before < 0.7
    for shown in (moving, 1 - moving):
        displacement = registration.register(fixed, shown).displacement
        assert dice(fixed, moving, displacement) > 0.8
        assert float(np.mean(metrics.displacement_scores(displacement)["folding_percent"])) < 0.05


def dice(fixed, moving, displacement):
    """Mean Dice of the masks of the images as they are."""
    warped = np.asarray(air_jax.warp(moving, displacement))
    return float(np.nanmean(metrics.image_scores(fixed, warped)["dice"]))
