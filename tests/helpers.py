"""Functions that several test files use. A random generator is not among them: each test makes its own."""

import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from air_jax import UserError, io

REPOSITORY = Path(__file__).resolve().parent.parent
# Marks of a further case of a costly test, which only .ci/full runs.
THOROUGH = (pytest.mark.slow, pytest.mark.thorough)
# Options of the model that compiles fastest, in a third of AiR's time: for runs in which any model will do.
FASTEST_UNET = {"encoder": (4,), "decoder": (4,), "final": (4,)}

# Compiler options of a test with `real_compiler`: they undo conftest's flags, which a process reads once.
REAL_KERNELS = (
    {"xla_cpu_use_fusion_emitters": True, "xla_cpu_parallel_codegen_split_count": 32}
    if "use_fusion_emitters" in os.environ["XLA_FLAGS"]
    else {}
)


def environment_with_devices(count):
    """Returns the environment of a process with so many virtual CPU devices, and the compiler flags of this one."""
    return {**os.environ, "XLA_FLAGS": re.sub(r"(?<=device_count=)\d+", str(count), os.environ["XLA_FLAGS"])}


def site_hooks():
    """Returns the module `docs/site.py`: the rooms of the API and their public names."""
    spec = importlib.util.spec_from_file_location("site_hooks", REPOSITORY / "docs" / "site.py")
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    return site


def data_folder(name):
    """Returns the folder `name` of the real data below `AIR_JAX_TEST_DATA`; skips the test where it is missing."""
    root = os.environ.get("AIR_JAX_TEST_DATA")
    if not root:
        pytest.skip("AIR_JAX_TEST_DATA is not set: needs a folder of real images")
    if not (Path(root) / name).is_dir():
        pytest.skip(f"{root} has no folder {name}")
    return Path(root) / name


def oblique_affine(num_axes):
    """Returns an affine `[N+1, N+1]` with rotation about two axes (2-D: one), unequal spacings and an origin."""
    turn = Rotation.from_euler("zx", [0.4, -0.25 if num_axes == 3 else 0]).as_matrix()
    affine = np.eye(num_axes + 1)
    affine[:-1, :-1] = turn[:num_axes, :num_axes] * np.array([0.8, 1.1, 2.5])[:num_axes]
    affine[:-1, -1] = np.array([-31.0, 12.5, 7.25])[:num_axes]
    return affine


def itk_affine(image):
    """Returns the affine from indices to physical space, measured by ITK's own function."""
    num_axes = image.GetDimension()
    origin = np.array(image.TransformContinuousIndexToPhysicalPoint([0.0] * num_axes))
    affine = np.eye(num_axes + 1)
    affine[:-1, -1] = origin
    for axis, unit in enumerate(np.eye(num_axes)):
        affine[:-1, axis] = np.array(image.TransformContinuousIndexToPhysicalPoint(unit.tolist())) - origin
    return affine


def check_against_itk(path):
    """Checks that we read a file as ITK does; returns our volume."""
    volume, image = io.read_image(path), SimpleITK.ReadImage(path)
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine(image), atol=1e-5)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(volume.direction.ravel(), image.GetDirection(), atol=1e-6)
    return volume


def refused(path, match, read=io.read_image):
    """Checks that reading the file raises `UserError` in one line that names the file."""
    with pytest.raises(UserError, match=match) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
