"""Real images, where `AIR_JAX_TEST_DATA` names their folder."""

import nibabel
import numpy as np
import SimpleITK
from helpers import check_against_itk, data_folder

from air_jax import io


def test_nifti_files_are_read_as_itk_reads_them():
    folder = data_folder("hippocampus_msd")
    paths = sorted((folder / "nifti").glob("*.nii.gz"))
    assert len(paths) == 10
    for path in paths:
        volume = check_against_itk(path)
        assert volume.array.dtype == nibabel.load(path).get_data_dtype()
        if "label" in path.name:  # one of them is stored as float32
            assert np.unique(volume.array).tolist() == [0, 1, 2]


def test_stack_of_the_hippocampus():
    stack = io.read_stack(data_folder("hippocampus_msd") / "hippocampus_48x64x48.npz")
    assert stack.image.shape == stack.label.shape == (230, 48, 64, 48)
    assert stack.num_axes == 3
    assert (stack.split == "validation").sum() == 30
    assert stack.ids[0] == "001"


def test_stack_of_brains():
    stack = io.read_stack(data_folder("brains_synthseg") / "brains20_2mm.npz")
    assert stack.image.shape == stack.label.shape == (20, 80, 96, 80)
    assert stack.ids[1] == "2"
    assert stack.spacing is stack.split is None


def test_histology_pictures_and_landmarks_are_read():
    paths = sorted(data_folder("histology_landmarks").glob("*/*.csv"))
    assert len(paths) == 9
    for path in paths:
        picture = io.read_image(path.with_suffix(".jpg"))
        theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path.with_suffix(".jpg")))
        assert picture.array.shape == theirs.shape
        # Two JPEG decoders interpolate the colours differently.
        assert np.abs(picture.array.astype(int) - theirs).mean() < 2
        points = io.read_landmarks(path)
        np.testing.assert_array_equal(points, np.loadtxt(path, delimiter=",", skiprows=1)[:, 1:])
        voxels = io.to_voxels(points, picture.affine)
        np.testing.assert_array_equal(voxels, points[:, ::-1])
        assert ((voxels >= 0) & (voxels < picture.shape)).all()
