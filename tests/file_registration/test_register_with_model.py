"""Two files registered with a trained model: its displacement, its refinement, and mistakes with --workdir."""

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from scipy.spatial.transform import Rotation

import air_jax
from air_jax import UserError, io
from air_jax.file_registration import options as options_module
from air_jax.file_registration.inputs import prepare, read_subjects
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.registration import Registration
from air_jax.transforms.spaces import sample_moving


def save_digits(folder):
    """Writes two blurred strokes in 8 bits, of the size of the model's images."""
    rows, columns = np.indices((28, 28))
    for name, shift in (("fixed", 0), ("moving", 2)):
        stroke = np.exp(-((rows - columns * 0.5 - 6 - shift) ** 2) / 8) * (abs(columns - 14) < 9)
        PIL.Image.fromarray(np.round(255 * stroke).astype(np.uint8)).save(folder / f"{name}.png")
    return folder / "fixed.png", folder / "moving.png"


@pytest.mark.slow
def test_the_model_predicts_the_deformation_and_steps_refine_it(finished_run, tmp_path, without_report):
    paths = save_digits(tmp_path)
    predicted = register_files(Options(*paths, tmp_path / "out", workdir=finished_run))
    images = [np.asarray(PIL.Image.open(path)) for path in paths]
    expected = air_jax.load(finished_run).register(*images).displacement
    displacement, _ = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(displacement, expected, atol=1e-4)

    scores = register_files(Options(*paths, tmp_path / "refined", workdir=finished_run, refine_steps=1))
    assert scores["after"]["mse"] < 0.95 * predicted["after"]["mse"]


@pytest.mark.slow
def test_the_model_sees_values_of_at_most_1(tmp_path, monkeypatch, without_report):
    """Where eight neighbours are 1, their interpolation may be 1.0000001."""
    affine = np.eye(4)
    mask = np.zeros((20, 18, 16), np.uint8)
    mask[2:-2, 2:-2, 2:-2] = 1
    for name, angle in (("fixed", 0.2), ("moving", -0.15)):
        affine[:3, :3] = Rotation.from_rotvec([angle, 0.1, angle]).as_matrix() * [1.5, 1.3, 2.0]
        io.write_image(tmp_path / f"{name}.nii.gz", mask, affine)
    seen = []

    def predict(self, fixed, moving):
        del self
        seen.append(float(moving.max()))
        return jnp.zeros((*fixed.shape[:-1], 3)), {}

    registration = air_jax.without_model(3, normalization="percentile", refine_steps=0)
    monkeypatch.setattr(options_module, "load", lambda workdir: registration)
    monkeypatch.setattr(Registration, "predict", predict)
    options = Options(tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", tmp_path / "out", workdir=tmp_path)
    register_files(options)
    inputs = prepare(registration, *read_subjects(options), options)
    zero = jnp.zeros((*mask.shape, 3))
    assert sample_moving(inputs.moving_image[0], zero, inputs.voxel_to_voxel).max() > 1
    assert seen == [1.0]


@pytest.mark.slow
def test_mistakes_with_a_workdir_are_refused_in_one_line(finished_run, tmp_path):
    paths = save_digits(tmp_path)
    volume = tmp_path / "volume.nii.gz"
    io.write_image(volume, np.random.default_rng(0).random((8, 9, 10), np.float32), np.eye(4))
    for options, match in (
        (Options(volume, volume, tmp_path / "out", workdir=finished_run), r"takes 2 axes and 1 channel.* has 3 axes"),
        (Options(*paths, tmp_path / "out", workdir=finished_run, normalization="range"), "--normalization is the"),
        (Options(*paths, tmp_path / "out", workdir=finished_run, field="dense"), "--field is the trained run's own"),
        (Options(*paths, tmp_path / "out", workdir=finished_run, similarity="mse"), "give --refine_steps also"),
        (Options(*paths, tmp_path / "out", workdir=tmp_path), r"config\.json: not found"),
    ):
        with pytest.raises(UserError, match=match) as error:
            register_files(options)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
