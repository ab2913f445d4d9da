"""Displacement fields of NiftyReg, SPM, FSL and other programs: read as what they are, or refused."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers import refused

from air_jax import UserError, io

RAS = np.array([[1.9, -0.3, 0, -20], [0.3, 1.9, 0, -30], [0, 0, 2.5, 5], [0, 0, 0, 1]])
RAS[:, :2] /= np.linalg.norm(RAS[:, :2], axis=0) / 2
SHAPES = {2: (12, 14), 3: (12, 14, 10)}


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def field(request, tmp_path):
    """Returns a path, a displacement in voxels, and the same as positions and as vectors in RAS."""
    rng, shape = np.random.default_rng(0), SHAPES[request.param]
    displacement = rng.normal(size=(*shape, request.param))
    flat = np.zeros((*shape, 3 - request.param))
    voxels = np.concatenate([np.moveaxis(np.indices(shape), 0, -1), flat], axis=-1)
    positions = nibabel.affines.apply_affine(RAS, voxels + np.concatenate([displacement, flat], axis=-1))
    vectors = positions - nibabel.affines.apply_affine(RAS, voxels)
    return tmp_path / "field.nii.gz", displacement, positions[..., : len(shape)], vectors[..., : len(shape)]


def save(path, vectors, *, code=1007, name="", p1=0.0, descrip="", qform=RAS, dtype=np.float32):
    """Writes `[*S, N]` as a 5-D file."""
    *shape, num_axes = vectors.shape
    image = nibabel.Nifti1Image(vectors.reshape(*[*shape, 1][:3], 1, num_axes).astype(dtype), RAS)
    image.set_qform(qform, 1)
    image.header["intent_code"], image.header["intent_p1"] = code, p1
    image.header["intent_name"], image.header["descrip"] = name, descrip
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def check(path, displacement):
    read, affine = io.read_field(path)
    np.testing.assert_allclose(read, displacement, atol=1e-5)
    num_axes = displacement.shape[-1]
    expected = (np.diag([-1.0, -1, 1, 1]) @ RAS)[[*range(num_axes), 3]][:, [*range(num_axes), 3]]
    np.testing.assert_allclose(affine, expected, atol=1e-5)


@pytest.mark.parametrize(
    "header",
    [
        {"name": "NREG_TRANS", "p1": 0},
        {"name": "Mapping", "descrip": "Deformation field"},
        {"code": 0, "name": "Mapping"},
        {"code": 0, "descrip": "Deformation"},
        {"code": 0, "descrip": "Inverse Deformation"},
        {"code": 1007, "descrip": "Deformation"},
    ],
)
def test_positions_of_niftyreg_and_spm_become_displacements(field, header):
    path, displacement, positions, _ = field
    save(path, positions, **header)
    check(path, displacement)


@pytest.mark.parametrize("header", [{"name": "NREG_TRANS", "p1": 1}, {"code": 1006}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_displacements_in_ras_are_turned_to_lps(field, header, dtype):
    path, displacement, _, vectors = field
    save(path, vectors, dtype=dtype, **header)
    check(path, displacement)


def test_intent_1006_is_read_as_itk_reads_it(field):
    path, displacement, _, vectors = field
    if displacement.shape[-1] == 2:
        pytest.skip("ITK 5.4 turns every third number of a 2-D field")
    save(path, vectors, code=1006)
    image = SimpleITK.ReadImage(path, SimpleITK.sitkVectorFloat64)
    num_axes = displacement.shape[-1]
    theirs = np.transpose(SimpleITK.GetArrayFromImage(image), (*range(num_axes)[::-1], num_axes))
    read, affine = io.read_field(path)
    np.testing.assert_allclose(read @ affine[:-1, :-1].T, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"name": "NREG_TRANS", "p1": 2}, "velocity field or a spline grid of NiftyReg.*intent_name NREG_TRANS.*p1 2"),
        ({"name": "NREG_TRANS", "p1": 4}, "velocity field"),
        ({"name": "NREG_CPP_FILE"}, "unknown content.*intent_name 'NREG_CPP_FILE'"),
        ({"name": "Flow field"}, "unknown content.*intent_name 'Flow field'"),
        ({"code": 1006, "name": "Flow field"}, "unknown content.*intent_code 1006"),
        ({"code": 0}, "not a displacement field.*intent_code 0"),
        ({"code": 1005}, "not a displacement field.*intent_code 1005"),
        ({"code": 2006}, "warp of FSL.*intent_code 2006"),
        ({"code": 2016}, "warp of FSL"),
    ],
)
def test_other_fields_are_refused_by_their_intent(field, header, match):
    path, _, _, vectors = field
    save(path, vectors, **header)
    refused(path, match, io.read_field)


def test_warps_of_fsl_are_refused_by_their_intent(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6, 3), np.float32), RAS)
    image.header["intent_code"] = 2006
    image.to_filename(tmp_path / "warp.nii.gz")
    refused(tmp_path / "warp.nii.gz", "warp of FSL.*intent_code 2006", io.read_field)


def test_positions_without_a_name_are_not_taken_for_displacements(field):
    path, displacement, positions, _ = field
    if displacement.shape[-1] == 2:
        pytest.skip("in a plane, a small moving picture can have such displacements")
    save(path, positions)
    refused(path, "contains positions in RAS.*intent_code 1007, no intent_name", io.read_field)


@pytest.mark.parametrize("scale", [0.1, 2.0])
@pytest.mark.parametrize("num_axes", [2, 3])
def test_displacements_between_images_of_unlike_size_are_read(tmp_path, num_axes, scale):
    shape = (9, 8, 7)[:num_axes]
    displacement = np.moveaxis(np.indices(shape), 0, -1) * np.float32(scale - 1)
    io.write_field(tmp_path / "field.nii", displacement, np.eye(num_axes + 1))
    np.testing.assert_allclose(io.read_field(tmp_path / "field.nii")[0], displacement, atol=1e-5)


def test_fields_in_ras_whose_header_has_two_places_are_refused(field):
    path, displacement, positions, _ = field
    moved = RAS.copy()
    moved[0, 3] += 1
    save(path, positions, name="Mapping", qform=moved)
    image = nibabel.load(path)
    image.header["sform_code"] = 2  # ITK then uses the qform
    image.to_filename(path.with_name("two.nii"))
    refused(path.with_name("two.nii"), "qform, sform and unit", io.read_field)
    image.header["sform_code"], image.header["qform_code"] = 1, 1
    image.to_filename(path)
    check(path, displacement)


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, np.float32), (-np.inf, np.float32), (1e300, np.float64)])
def test_displacements_that_are_not_finite_are_refused(field, value, dtype):
    path, displacement, _, vectors = field
    num_axes = displacement.shape[-1]
    voxel = (1, 2, 3)[:num_axes]
    vectors[voxel], displacement[voxel] = value, value
    for header in ({}, {"code": 1006}, {"name": "Mapping"}):
        save(path, vectors, dtype=dtype, **header)
        refused(path, f": {num_axes} of {vectors.size} values are not finite", io.read_field)
    path.unlink()
    with pytest.raises(UserError, match=f"{num_axes} of {vectors.size} values are not finite"):
        io.write_field(path, displacement.astype(dtype), np.eye(num_axes + 1))
    assert not path.exists()
