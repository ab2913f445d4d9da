"""The files of the table: brains with a known deformation, a painted lesion, contrasts, landmarks, crops, slides."""

import json
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
import tifffile
from PIL import Image
from scipy import ndimage

from air_jax import io
from air_jax.io.space import reversed_affine

SPACING = 2.0  # mm, of the brains
LESION_RADIUS, AROUND = 7, 5  # voxels
BOX = (24, 28, 24)  # voxels, half of the part of a brain with the lesion
LESION_LABEL = 41  # right white matter
NUM_PAIRS = 4  # of hippocampus crops
SLIDE, REDUCED = 4_000, 512  # pixels along the longer side: of the slide, and as registered
SLIDES = {"fixed": "Izd2-29-041-w35_HE", "moving": "Izd2-29-041-w35_proSPC"}
STAINS = {"fixed": "29-041-Izd2-w35-He-les3", "moving": "29-041-Izd2-w35-Ki67-7-les3"}
HALF = 0.5  # of the stains' size


def smooth_field(shape: tuple[int, ...], largest: float, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth random displacement `[*S, N]` in voxels, at most `largest` along each axis."""
    parts = [ndimage.gaussian_filter(rng.normal(size=shape), sigma) for _ in shape]
    return np.stack([largest * part / np.abs(part).max() for part in parts], axis=-1)


def pulled(image: np.ndarray, field: np.ndarray, order: int = 1) -> np.ndarray:
    """`image(p + field(p))`."""
    points = np.moveaxis(np.indices(image.shape), 0, -1) + field
    return ndimage.map_coordinates(image, np.moveaxis(points, -1, 0), order=order, mode="nearest")


def inverse(field: np.ndarray) -> np.ndarray:
    """The displacement `u` with `u(p) = -field(p + u(p))`: from the undeformed image to the pulled one."""
    found = -field
    for _ in range(40):
        found = -np.stack([pulled(field[..., axis], found) for axis in range(field.shape[-1])], axis=-1)
    return found


def brains(data: Path, folder: Path) -> None:
    """Two brains with their labels."""
    affine = reversed_affine(np.full(3, SPACING))
    with np.load(data / "brains_synthseg" / "brains20_2mm.npz") as stack:
        images, labels = stack["image"][:2].astype(np.float32), stack["label"][:2]
    for index in (0, 1):
        io.write_image(folder / f"brain{index}.nii.gz", images[index], affine)
        io.write_segmentation(folder / f"labels{index}.nii.gz", labels[index], affine)


def lesion(data: Path, folder: Path) -> None:
    """A part of a brain with a painted lesion, its mask, and the same part deformed by a known field, without it."""
    rng, affine = np.random.default_rng(0), reversed_affine(np.full(3, SPACING))
    with np.load(data / "brains_synthseg" / "brains20_2mm.npz") as stack:
        image, labels = stack["image"][0].astype(np.float32), stack["label"][0]
    centre = np.round(ndimage.center_of_mass(labels == LESION_LABEL)).astype(int)
    low = [
        min(max(middle - half, 0), size - 2 * half) for middle, half, size in zip(centre, BOX, image.shape, strict=True)
    ]
    box = tuple(slice(start, start + 2 * half) for start, half in zip(low, BOX, strict=True))
    image, labels, centre = image[box], labels[box], centre - low
    field = smooth_field(image.shape, 3.0, 8.0, rng)
    deformed = pulled(image, field) + rng.normal(0, 2, image.shape)
    away = np.linalg.norm(np.moveaxis(np.indices(image.shape), 0, -1) - centre, axis=-1)
    hole = away <= LESION_RADIUS
    io.write_image(folder / "deformed.nii.gz", deformed.astype(np.float32), affine)
    io.write_image(folder / "lesioned.nii.gz", np.where(hole, 255, image).astype(np.float32), affine)
    io.write_segmentation(folder / "healthy.nii.gz", (~hole).astype(np.uint8), affine)
    np.savez_compressed(
        folder / "truth.npz",
        field=inverse(field).astype(np.float32),
        hole=hole,
        around=(labels > 0) & ~hole & (away <= LESION_RADIUS + AROUND),
        elsewhere=(labels > 0) & (away > LESION_RADIUS + AROUND),
    )


def turned(data: Path, folder: Path) -> None:
    """A brain at 4 mm, and the same one turned by 8 degrees, shifted and scaled, with noise."""
    rng = np.random.default_rng(0)
    with np.load(data / "brains_synthseg" / "brains20_2mm.npz") as stack:
        image, labels = stack["image"][0].astype(np.float32), stack["label"][0][::2, ::2, ::2]
    sizes = [size for half in labels.shape for size in (half, 2)]
    image, affine = image.reshape(sizes).mean(axis=(1, 3, 5)), reversed_affine(np.full(3, 2 * SPACING))
    turn, middle, shift = np.radians(8), (np.array(image.shape) - 1) / 2, np.array([1.5, -1, 0.5])
    matrix = 1.04 * np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    grid = np.moveaxis(np.indices(image.shape), 0, -1)
    moved = pulled(image, (grid - middle) @ matrix.T + middle + shift - grid) + rng.normal(0, 2, image.shape)
    io.write_image(folder / "straight.nii.gz", image, affine)
    io.write_image(folder / "turned.nii.gz", moved.astype(np.float32), affine)
    back = (grid - middle - shift) @ np.linalg.inv(matrix).T + middle - grid
    np.savez_compressed(folder / "turned.npz", field=back.astype(np.float32), brain=labels > 0)


def transforms(folder: Path) -> None:
    """A displacement field and an affine of ITK between the two brains, for the row of applied transforms."""
    image = SimpleITK.ReadImage(str(folder / "brain0.nii.gz"))
    field = smooth_field(image.GetSize()[::-1], 3.0, 8.0, np.random.default_rng(0))
    io.write_field(folder / "applied.nii.gz", field.astype(np.float32), reversed_affine(np.full(3, SPACING)))
    affine = SimpleITK.AffineTransform(3)
    affine.Rotate(0, 1, 0.1)
    affine.Translate((3.0, -2.0, 4.0))
    affine.SetCenter(image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()]))
    SimpleITK.WriteTransform(affine, str(folder / "applied.mat"))


def contrasts(data: Path, folder: Path) -> None:
    """Two contrasts of one brain slice, both deformed by a known field, with noise. The second one is painted."""
    rng = np.random.default_rng(0)
    with np.load(data / "brains_synthseg" / "brains20_2mm.npz") as stack:
        t1, labels = stack["image"][0, 40].astype(np.float32), stack["label"][0, 40]
    grey = np.append(0, rng.uniform(60, 220, labels.max()))
    t2 = ndimage.gaussian_filter(grey[labels], 0.7)
    field = smooth_field(t1.shape, 3.0, 8.0, rng)
    for name, image in (("t1", t1), ("t2", t2)):
        for side, moved in (("fixed", image), ("moving", pulled(image, field))):
            noisy = (moved + rng.normal(0, 20, image.shape)).astype(np.float32)
            io.write_image(folder / f"{side}_{name}.nii.gz", noisy, np.diag([SPACING, SPACING, 1.0]))
    np.savez_compressed(folder / "contrasts.npz", field=inverse(field).astype(np.float32), brain=labels > 0)


def stains(data: Path, folder: Path) -> None:
    """Two stains in grey at half size, and their landmarks: every second one guides, the others score."""
    for side, name in STAINS.items():
        source = data / "histology_landmarks" / "lung_lesion_3" / name
        with Image.open(source.with_suffix(".jpg")) as picture:
            small = picture.convert("L").resize([round(HALF * length) for length in picture.size])
        io.write_image(folder / f"stain_{side}.nii.gz", np.asarray(small, np.float32).T.copy(), np.eye(3))
        points = (io.read_landmarks(source.with_suffix(".csv")) + 0.5) * HALF - 0.5
        for half, first in (("guide", 0), ("score", 1)):
            io.write_landmarks(folder / f"{half}_{side}.csv", points[first::2])
            lines = ["point", str(len(points[first::2])), *(f"{x} {y}" for x, y in points[first::2])]
            (folder / f"{half}_{side}.pts").write_text("\n".join(lines) + "\n")


def crops(data: Path, folder: Path) -> None:
    """Pairs of different hippocampus crops in their native sizes, with a table of pairs."""
    with np.load(data / "hippocampus_msd" / "hippocampus_48x64x48.npz") as arrays:
        content = dict(arrays)
    lines = ["fixed,moving,fixed_labels,labels,output"]
    for number in range(2 * NUM_PAIRS):
        offset, shape = content["offset"][number], content["shape"][number]
        box = tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))
        io.write_image(folder / f"crop{number}.nii.gz", content["image"][number][box], np.eye(4))
        io.write_segmentation(folder / f"crop{number}_labels.nii.gz", content["label"][number][box], np.eye(4))
    for pair in range(NUM_PAIRS):
        names = [f"crop{2 * pair + side}{kind}.nii.gz" for kind in ("", "_labels") for side in (0, 1)]
        lines.append(",".join([*names, f"pair{pair}"]))
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")


def slides(data: Path, folder: Path) -> None:
    """Two colour slides of `SLIDE` pixels, enlarged from a real pair, and their landmarks."""
    for side, name in SLIDES.items():
        source = data / "histology_landmarks" / "lesion_izd2_041" / name
        with Image.open(source.with_suffix(".jpg")) as picture:
            factor = SLIDE / max(picture.size)
            size = [round(length * factor) for length in picture.size]
            pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        tifffile.imwrite(folder / f"slide_{side}.tif", pixels, tile=(512, 512), photometric="rgb", compression="zlib")
        points = (io.read_landmarks(source.with_suffix(".csv")) + 0.5) * factor - 0.5
        io.write_landmarks(folder / f"slide_{side}.csv", points)


def formats(folder: Path) -> None:
    """One volume in each format."""
    values = np.random.default_rng(0).integers(0, 1000, (20, 24, 18)).astype(np.int16)
    image = SimpleITK.GetImageFromArray(values.T)
    image.SetSpacing((1.5, 1.25, 2.0))
    image.SetOrigin((-10.0, 20.0, 5.0))
    np.save(folder / "values.npy", values)
    corner = image.TransformIndexToPhysicalPoint((1, 2, 3))
    files = {}
    for name, ending in (("NIfTI", "nii.gz"), ("NRRD", "nrrd"), ("MetaImage", "mha")):
        files[name] = str(folder / f"volume.{ending}")
        SimpleITK.WriteImage(image, files[name])
    nifti = nibabel.load(files["NIfTI"])
    files["MGZ"] = str(folder / "volume.mgz")
    nibabel.save(nibabel.MGHImage(values.astype(np.int32), nifti.affine), files["MGZ"])
    files["NIfTI, 4th axis of 1"] = str(folder / "four.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values[..., None], nifti.affine), files["NIfTI, 4th axis of 1"])
    files["NumPy"] = str(folder / "volume.npy")
    np.save(files["NumPy"], values)
    series = folder / "series"
    series.mkdir(exist_ok=True)
    files["DICOM"] = str(series)
    for index in range(values.shape[2]):
        part = image[:, :, index]
        for key, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|0032": "\\".join(map(str, image.TransformIndexToPhysicalPoint((0, 0, index)))),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(index),
            "0018|0050": "2.0",
        }.items():
            part.SetMetaData(key, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(series / f"{index:03}.dcm"))
        writer.Execute(part)
    (folder / "formats.json").write_text(json.dumps({"files": files, "shape": values.shape, "corner": corner}))
