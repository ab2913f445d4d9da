"""Sample pairs come from installed packages and fit each other."""

import numpy as np
import pytest

from air_jax import UserError, io
from air_jax.data import sample_files


@pytest.mark.parametrize(("num_axes", "shape"), [(2, (256, 256)), (3, (128, 96, 24))])
def test_the_files_of_a_pair_fit_each_other(tmp_path, num_axes, shape):
    files = sample_files.write_sample_pair(tmp_path / "files", num_axes=num_axes)
    volumes = {name: io.read_image(path) for name, path in files._asdict().items()}
    assert {volume.array.shape for volume in volumes.values()} == {shape}
    arrays = {name: np.asarray(volume.array, float) for name, volume in volumes.items()}
    for volume in volumes.values():
        np.testing.assert_allclose(volume.affine, volumes["fixed"].affine, atol=1e-4)
    different = np.corrcoef(arrays["fixed"].ravel(), arrays["moving"].ravel())[0, 1]
    assert 0.6 < different < 0.98
    assert set(np.unique(arrays["fixed_mask"])) == {0, 1}
    assert arrays["fixed"][arrays["fixed_mask"] == 0].max() < 0.5 * arrays["fixed"].mean() + 1
    assert set(np.unique(arrays["labels"])) == {0, 1, 2, 3}
    inside = arrays["labels"] > 0
    np.testing.assert_array_equal(arrays["contrast"], np.where(inside, 255 - arrays["moving"], 0))


def test_a_package_without_its_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"s1045\.ima\.gz: is not installed here; give files of your own"):
        sample_files.write_sample_pair(tmp_path / "files")
    with pytest.raises(ValueError, match="num_axes=4"):
        sample_files.write_sample_pair(tmp_path, num_axes=4)
