"""`--features`: two files of different contrasts, compared by the features of a pretrained model."""

import nibabel
import numpy as np
import PIL.Image
import pytest

from air_jax import UserError
from air_jax.file_registration.options import Options, choose_registration
from air_jax.file_registration.run import register_files
from air_jax.registration import pretrained_folder


def write_pictures(folder, shift):
    """A disk of grey values on a ramp, and the same moved along the rows, as a negative."""
    rows, columns = np.indices((48, 40))

    def picture(row):
        disk = 1 / (1 + np.exp(np.hypot(rows - row, columns - 19) - 9))
        return np.round(255 * (0.2 + 0.7 * disk)).astype(np.uint8)

    PIL.Image.fromarray(picture(22)).save(folder / "fixed.png")
    PIL.Image.fromarray(255 - picture(22 + shift)).save(folder / "moving.png")
    return folder / "fixed.png", folder / "moving.png", folder / "out"


@pytest.mark.slow
def test_a_negative_is_registered_by_features(tmp_path, without_report):
    options = Options(*write_pictures(tmp_path, 3), features="shapes-2d", affine="none", refine_steps=60)
    register_files(options, compile_ahead=True)
    displacement = np.asarray(nibabel.load(tmp_path / "out" / "displacement.nii.gz").dataobj)
    moved = displacement.reshape(40, 48, 2)[..., 1]  # y is along the rows, in pixels
    assert abs(moved[16:23, 19:26].mean() - 3) < 0.6


def test_a_folder_is_taken_as_well(tmp_path):
    given = Options(*write_pictures(tmp_path, 3), features=str(pretrained_folder("shapes-2d")))
    named = Options(*write_pictures(tmp_path, 3), features="shapes-2d")
    by_folder, by_name = (choose_registration(each, 2)[0].objective.similarity for each in (given, named))
    assert by_folder.func == by_name.func


def test_a_model_without_features_is_refused(tmp_path, finished_run):
    options = Options(*write_pictures(tmp_path, 3), features=str(finished_run))
    with pytest.raises(UserError, match=r"--features=.*: has no features; needs a model of matching attention"):
        choose_registration(options, 2)
