"""Jobs of ANTs, elastix and SimpleITK for the table: `python -m experiments.everyday.table.tools JSON`.

A job names a tool, a task and files. Registrations leave `displacement.nii.gz` on the fixed grid, in ITK's convention,
so that one code scores all tools. Every tool has its defaults.
"""

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK

ELASTIX_MAPS = {"affine": ["affine"], "deformable": ["affine", "bspline"], "deformation": ["bspline"]}
ANTS_KINDS = {"affine": "Affine", "deformable": "SyN", "deformation": "SyNOnly"}


def write_displacement(transform: SimpleITK.Transform, fixed: str, out: str) -> None:
    """Writes any transform of ITK as a displacement field on the grid of an image."""
    image = SimpleITK.ReadImage(fixed)
    field = SimpleITK.TransformToDisplacementField(
        transform,
        SimpleITK.sitkVectorFloat64,
        image.GetSize(),
        image.GetOrigin(),
        image.GetSpacing(),
        image.GetDirection(),
    )
    SimpleITK.WriteImage(SimpleITK.Cast(field, SimpleITK.sitkVectorFloat32), f"{out}/displacement.nii.gz")


def composed(names: list[str]) -> SimpleITK.Transform:
    """Transforms as `antsApplyTransforms` lists them: the first one is applied first to points of the fixed image."""
    parts = []
    for name in names:
        if name.endswith(".nii.gz"):
            field = SimpleITK.ReadImage(name, SimpleITK.sitkVectorFloat64)
            parts.append(SimpleITK.DisplacementFieldTransform(field))
        else:
            parts.append(SimpleITK.ReadTransform(name))
    return SimpleITK.CompositeTransform(parts[::-1])


def register_ants(job: dict) -> None:
    import ants

    fixed, moving = (ants.image_read(job[side][0]) for side in ("fixed", "moving"))
    options: dict = {"type_of_transform": ANTS_KINDS[job["kind"]]}
    if "mask" in job:
        options |= {"mask": ants.image_read(job["mask"]), "mask_all_stages": True}
    if "points" in job:  # ANTsPy takes landmarks for an affine only, which the registration starts from
        points = [np.loadtxt(path, skiprows=2) for path in job["points"]]
        start = ants.fit_transform_to_paired_points(points[1], points[0], transform_type="affine")
        ants.write_transform(start, f"{job['out']}/start.mat")
        options["initial_transform"] = [f"{job['out']}/start.mat"]
    if job["kind"] == "deformation":  # SyNOnly has no affine; the images lie where their headers place them
        options["initial_transform"] = "Identity"
    if len(job["fixed"]) > 1:
        second = [ants.image_read(job[side][1]) for side in ("fixed", "moving")]
        options["multivariate_extras"] = [("mattes", *second, 1, 32)]
    found = ants.registration(fixed, moving, **options)["fwdtransforms"]
    write_displacement(composed(found), job["fixed"][0], job["out"])


def register_elastix(job: dict) -> None:
    import itk

    fixed, moving = ([itk.imread(path, itk.F) for path in job[side]] for side in ("fixed", "moving"))
    maps = itk.ParameterObject.New()
    for kind in ELASTIX_MAPS[job["kind"]]:
        one = maps.GetDefaultParameterMap(kind)
        if "grid" in job and kind == "bspline":
            one["FinalGridSpacingInPhysicalUnits"] = (str(job["grid"]),)
        if "points" in job:
            _add_metric(one, "CorrespondingPointsEuclideanDistanceMetric", job["weight"])
        if len(fixed) > 1:
            _two_contrasts(one)
        maps.AddParameterMap(one)
    elastix = itk.ElastixRegistrationMethod.New(fixed[0], moving[0])
    for further in zip(fixed[1:], moving[1:], strict=True):
        elastix.AddFixedImage(further[0])
        elastix.AddMovingImage(further[1])
    if "mask" in job:
        elastix.SetFixedMask(itk.imread(job["mask"], itk.UC))
    if "points" in job:
        elastix.SetFixedPointSetFileName(job["points"][0])
        elastix.SetMovingPointSetFileName(job["points"][1])
    elastix.SetParameterObject(maps)
    elastix.SetLogToConsole(False)
    elastix.UpdateLargestPossibleRegion()
    result = elastix.GetTransformParameterObject()
    field = itk.transformix_deformation_field(moving[0], result, output_directory=job["out"])
    itk.imwrite(field, f"{job['out']}/displacement.nii.gz")


def _add_metric(one, name: str, weight: float) -> None:
    metrics = (*one["Metric"], name)
    one["Metric"] = metrics
    one["Registration"] = ("MultiMetricMultiResolutionRegistration",)
    for index in range(len(metrics) - 1):
        if f"Metric{index}Weight" not in list(one.keys()):
            one[f"Metric{index}Weight"] = ("1.0",)
    one[f"Metric{len(metrics) - 1}Weight"] = (str(weight),)


def _two_contrasts(one) -> None:
    """One metric, sampler, pyramid and interpolator for each contrast; the bending penalty is left out."""
    one["Registration"] = ("MultiMetricMultiResolutionRegistration",)
    for name in ("ImageSampler", "Interpolator", "FixedImagePyramid", "MovingImagePyramid"):
        one[name] = 2 * one[name][:1]
    one["Metric"] = ("AdvancedMattesMutualInformation",) * 2
    one["Metric0Weight"] = one["Metric1Weight"] = ("0.5",)


def apply(job: dict) -> None:
    """Applies a displacement field and then an affine to an image and to its segmentation."""
    names = [job["affine"], job["field"]]
    if job["tool"] == "ants":
        import ants

        reference = ants.image_read(job["reference"])
        for name, interpolator in (("image", "linear"), ("labels", "nearestNeighbor")):
            moving = ants.image_read(job[name])
            # Without `whichtoinvert`, ANTsPy inverts an affine that stands before a field.
            how = {"interpolator": interpolator, "whichtoinvert": [False, False]}
            warped = ants.apply_transforms(reference, moving, names, **how)
            ants.image_write(warped, f"{job['out']}/{name}.nii.gz")
        return
    reference, transform = SimpleITK.ReadImage(job["reference"]), composed(names)
    for name, interpolator in (("image", SimpleITK.sitkLinear), ("labels", SimpleITK.sitkNearestNeighbor)):
        warped = SimpleITK.Resample(SimpleITK.ReadImage(job[name]), reference, transform, interpolator, 0.0)
        SimpleITK.WriteImage(warped, f"{job['out']}/{name}.nii.gz")


def slide(job: dict) -> None:
    """A large picture by hand: both are reduced, registered in grey, and the moving one is warped in full size."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    reduced, factors = [], []
    for side in ("fixed", "moving"):
        with Image.open(job[side][0]) as picture:
            factor = max(picture.size) / job["size"]
            small = picture.convert("L").resize([round(length / factor) for length in picture.size])
        image = SimpleITK.GetImageFromArray(np.asarray(small, np.float32))
        image.SetSpacing((factor, factor))
        image.SetOrigin(((factor - 1) / 2,) * 2)
        path = f"{job['out']}/{side}.nii.gz"
        SimpleITK.WriteImage(image, path)
        reduced.append(path)
        factors.append(factor)
    register({**job, "task": "register", "fixed": reduced[:1], "moving": reduced[1:]})
    field = SimpleITK.ReadImage(f"{job['out']}/displacement.nii.gz", SimpleITK.sitkVectorFloat64)
    pixels = SimpleITK.ReadImage(job["moving"][0], SimpleITK.sitkVectorUInt8)
    fixed = SimpleITK.ReadImage(job["fixed"][0], SimpleITK.sitkVectorUInt8)
    for image in (pixels, fixed):
        image.SetSpacing((1.0, 1.0))
        image.SetOrigin((0.0, 0.0))
    transform = SimpleITK.DisplacementFieldTransform(field)
    warped = SimpleITK.Resample(pixels, fixed, transform, SimpleITK.sitkLinear, 255.0)
    SimpleITK.WriteImage(warped, f"{job['out']}/warped.tif", useCompression=True)


def register(job: dict) -> None:
    Path(job["out"]).mkdir(parents=True, exist_ok=True)
    (register_ants if job["tool"] == "ants" else register_elastix)(job)


def read(job: dict) -> None:
    """Tries to read each file; writes those whose values and place are right."""
    right = []
    for name, path in job["files"].items():
        try:
            values, corner = _read_one(job["tool"], Path(path))
        except Exception:  # each library raises errors of its own
            continue
        if values.shape == tuple(job["shape"]) and np.allclose(values, np.load(job["values"])):
            right += [name] if np.allclose(corner, job["corner"], atol=1e-3) else []
    Path(job["out"], "right.json").write_text(json.dumps(right))


def _read_one(tool: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values `[x, y, z]` and the position (LPS, mm) of the voxel (1, 2, 3)."""
    if tool == "air_jax":
        from air_jax import io

        volume = io.read_image(path)
        return volume.array, io.to_physical(np.array([[1.0, 2, 3]]), volume.affine)[0]
    if tool == "ants":
        import ants

        image = ants.dicom_read(str(path)) if path.is_dir() else ants.image_read(str(path))
        return image.numpy(), np.array(ants.transform_index_to_physical_point(image, (1, 2, 3)))
    if path.is_dir():
        image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    else:
        image = SimpleITK.ReadImage(str(path))
    return SimpleITK.GetArrayFromImage(image).T, np.array(image.TransformIndexToPhysicalPoint((1, 2, 3)))


TASKS = {"register": register, "apply": apply, "slide": slide, "read": read}


if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        Path(each["out"]).mkdir(parents=True, exist_ok=True)
        TASKS[each["task"]](each)
