"""A sheet of training pairs."""

import numpy as np
import pytest

from air_jax import io
from air_jax.errors import UserError
from air_jax.training.samples import draw_samples
from air_jax.workdir.defaults import default_config


def test_a_sheet_shows_pairs_as_the_model_sees_them(tmp_path):
    segmentations = np.zeros((8, 16, 18), np.uint8)
    for index, each in enumerate(segmentations):
        each[3 : 9 + index % 4, 4:12] = 1 + 4 * (index % 2)
    io.write_stack(tmp_path / "stack.npz", np.zeros_like(segmentations), label=segmentations)
    config = default_config("matching_air")
    config.dataset.update({"name": str(tmp_path / "stack.npz"), "num_validation": 2, "train_fraction": 0.6})
    config.synthesis.update({"velocity": 1.0, "spacings": (8,), "blur": 0.0, "bias": 0.0, "noise": 0.0})
    pair = draw_samples(config, tmp_path / "sheet.png", num_pairs=3)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert pair.fixed.shape == pair.moving.shape == (3, 16, 18, 1)
    for image, labels in zip(pair.moving, pair.moving_segmentation, strict=True):
        assert set(np.unique(labels)) in ({0, 1}, {0, 5})
        assert len(np.unique(image)) <= 2  # a grey value a label, though the stack's images are black
    assert not np.array_equal(pair.fixed_segmentation, pair.moving_segmentation)
    with pytest.raises(UserError, match=r"none/sheet\.png: cannot be written, its folder does not exist"):
        draw_samples(config, tmp_path / "none" / "sheet.png", num_pairs=3)
