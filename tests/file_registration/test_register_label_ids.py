"""Label ids in files and scores: exact, in the integer type of the segmentation's file."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
# Ids of the Allen mouse brain atlas; the last two differ by 1 and are equal in float32.
ALLEN_IDS = (0, 997, 182305693, 312782550, 614454276, 614454277)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stored", "ids", "expected"),
    [
        (np.uint8, (0, 1, 2, 3, 4, 255), np.uint8),
        (np.int32, ALLEN_IDS, np.int32),
        (np.float64, ALLEN_IDS, np.int32),
        (np.uint32, (0, 997, 3000000000, 3000000001, 2**32 - 2, 2**32 - 1), np.uint32),
        (np.uint64, (0, 997, 2**32, 2**40, 2**40 + 1, 2**64 - 1), np.uint64),
    ],
)
def test_an_image_registered_to_itself_has_dice_1_for_every_id(tmp_path, without_report, stored, ids, expected):
    shape = (12, 10, 8)
    image = np.random.default_rng(0).random(shape, np.float32)
    labels = np.array(ids, stored)[(np.indices(shape)[0] // 2) % len(ids)]
    nibabel.Nifti1Image(image, AFFINE).to_filename(tmp_path / "image.nii.gz")
    nibabel.Nifti1Image(labels, AFFINE, dtype=stored).to_filename(tmp_path / "labels.nii.gz")
    scores = register_files(
        Options(
            *[tmp_path / "image.nii.gz"] * 2,
            tmp_path / "out",
            labels=tmp_path / "labels.nii.gz",
            fixed_labels=tmp_path / "labels.nii.gz",
            affine="none",
            refine_steps=0,
        )
    )
    for part in ("before", "after"):
        dice = {name.removeprefix("dice_"): value for name, value in scores[part].items() if name.startswith("dice_")}
        assert dice == {str(label): 1.0 for label in ids if label}
    warped = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "out" / "warped_labels.nii.gz")).T
    assert warped.dtype == expected
    np.testing.assert_array_equal(warped.astype(stored), labels)
