"""The folder in which the catalogue's rows run: good files, bad files, configs, and workdirs with one thing wrong."""

import gzip
import json
import os
import struct
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from fault_batches import make_tables
from fault_formats import make_formats
from fault_guides import make_guides, make_series
from fault_models import make_further_tables, make_models, make_subjects
from fault_workdirs import make_configs, make_workdirs
from PIL import Image

from air_jax import io

SHAPE = (12, 10, 9)


def make(folder: Path, run: Path) -> None:
    """Makes the folder.

    Args:
      folder: an empty folder.
      run: workdir of a finished run, which is copied and damaged.
    """
    make_files(folder)
    make_models(folder)
    make_tables(folder)
    make_further_tables(folder)
    make_subjects(folder, np.random.default_rng(1))
    make_configs(folder)
    make_workdirs(folder, run)
    (folder / "not_empty").mkdir()
    (folder / "not_empty" / "scores.json").write_text("mine")
    (folder / "read_only").mkdir()
    (folder / "read_only").chmod(0o555)


def make_files(folder: Path) -> None:
    """Makes images, points, transforms, stacks and series, good and bad, in an empty folder."""
    rng = np.random.default_rng(0)
    _images(folder, rng)
    _headers(folder)
    _points_and_transforms(folder, rng)
    _stacks(folder, rng)
    make_guides(folder, rng)
    make_series(folder, rng)
    make_formats(folder, rng)


def _images(folder: Path, rng: np.random.Generator) -> None:
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    image = rng.random(SHAPE).astype(np.float32)
    labels = (image > 0.5).astype(np.int16)
    io.write_image(folder / "fixed.nii.gz", image, affine)
    io.write_image(folder / "moving.nii.gz", image[::-1].copy(), affine)
    io.write_image(folder / "picture.png", (255 * image[:, :, 0]).astype(np.uint8), np.diag([-1.0, -1.0, 1.0]))
    io.write_segmentation(folder / "labels.nii.gz", labels, affine)
    io.write_segmentation(folder / "other_shape.nii.gz", labels[:-1], affine)

    ras = np.diag([-1.5, -1.5, 2.0, 1.0])  # as NIfTI has it

    def nifti(name: str, array: np.ndarray, matrix: np.ndarray = ras) -> None:
        nibabel.save(nibabel.Nifti1Image(array, matrix), folder / name)

    changed = {"nan": np.nan, "infinite": np.inf, "beyond_float32": 1e300}
    for name, value in changed.items():
        array = image.astype(np.float64)
        array[3, 3, 3] = value
        nifti(f"{name}.nii", array)
    nifti("all_nan.nii", np.full(SHAPE, np.nan, np.float32))
    nifti("constant.nii", np.ones(SHAPE, np.float32))
    nifti("negative_labels.nii", -labels)
    nifti("float_labels.nii", image)
    nifti("nan_labels.nii", np.where(labels, np.nan, 0).astype(np.float32))
    nifti("no_labels.nii", 0 * labels)
    nifti("complex.nii", image.astype(np.complex64))
    nifti("four_axes.nii", np.stack([image, image], axis=-1))
    nifti("one_slice_thick.nii", image[:, :, :1])
    nifti("far.nii", image, affine + np.array([[0, 0, 0, 1e9]] * 3 + [[0, 0, 0, 0]]))
    nifti("elsewhere.nii", image, affine + np.array([[0, 0, 0, 500.0]] * 3 + [[0, 0, 0, 0]]))
    nifti("tiny_voxels.nii", image, np.diag([1e-20, 1e-20, 1e-20, 1.0]))
    for name, matrix in (("singular", np.diag([1.0, 0.0, 1.0, 1.0])), ("nan_affine", np.full((4, 4), np.nan))):
        written = nibabel.Nifti1Image(image, affine)
        written.header.set_sform(affine, code=1)
        written.header.set_qform(affine, code=0)
        header = written.header
        for row, values in zip(("srow_x", "srow_y", "srow_z"), matrix, strict=False):
            header[row] = values
        content = header.binaryblock + b"\0" * 4 + np.asarray(image, "<f4").tobytes(order="F")
        (folder / f"{name}.nii").write_bytes(content)

    whole = (folder / "fixed.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "damaged.nii.gz").write_bytes(whole[:60] + bytes(40) + whole[100:])
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "text.nii.gz").write_text("not an image\n" * 40)
    (folder / "wrong_kind.png").write_bytes(whole)
    (folder / "unknown.xyz").write_bytes(whole)
    (folder / "no_ending").write_bytes(whole)
    plain = gzip.decompress(whole)
    (folder / "cut.nii").write_bytes(plain[: len(plain) // 2])
    (folder / "secret.nii").write_bytes(plain)
    (folder / "secret.nii").chmod(0)
    os.mkfifo(folder / "pipe.nii")
    (folder / "link_to_nothing.nii").symlink_to("nothing.nii")
    (folder / "link_to_itself.nii").symlink_to("link_to_itself.nii")
    (folder / "folder.nii").mkdir()
    (folder / "empty_folder").mkdir()
    (folder / "dicom_text").mkdir()
    (folder / "dicom_text" / "a.dcm").write_text("not DICOM\n" * 40)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image.T), folder / "image.nrrd")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image.T), folder / "image.mha")
    for name in ("image.nrrd", "image.mha"):
        content = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(content[: len(content) // 2])
        (folder / f"text_{name}").write_text("not an image\n" * 40)
    Image.fromarray((255 * image[:, :, 0]).astype(np.uint8)).save(folder / "image.jpg")
    for name in ("picture.png", "image.jpg"):
        content = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(content[: len(content) // 2])


def _headers(folder: Path) -> None:
    """Files that declare gigabytes."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((2600, 1000, 1000))
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    content = header.binaryblock + bytes(10_000)
    (folder / "huge.nii").write_bytes(content)
    (folder / "huge.nii.gz").write_bytes(gzip.compress(content))
    for name, sizes in (("negative_size", (-5, 4, 4)), ("zero_size", (0, 4, 4))):
        wrong = bytearray(header.binaryblock)
        wrong[40:48] = struct.pack("<4h", 3, *sizes)
        (folder / f"{name}.nii").write_bytes(bytes(wrong) + bytes(10_000))
    described = b"{'descr': '<f4', 'fortran_order': False, 'shape': (30000, 30000, 30000), }\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(described)) + described + bytes(1000)
    (folder / "huge.npy").write_bytes(array)
    with zipfile.ZipFile(folder / "huge.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("image.npy", array)
    lines = ["NRRD0004", "type: float", "dimension: 3", "sizes: 30000 30000 30000", "encoding: raw", "endian: little"]
    (folder / "huge.nrrd").write_bytes("\n".join([*lines, "", ""]).encode() + bytes(1000))


def _points_and_transforms(folder: Path, rng: np.random.Generator) -> None:
    tables = {
        "points": "x,y,z\n1.0,2.0,3.0\n4.0,5.0,6.0\n",
        "three_points": "x,y,z\n1,2,3\n4,5,6\n1,1,1\n",
        "flat_points": "x,y\n1,2\n3,4\n",
        "underscore_points": "x,y,z\n1_0,2,3\n4,5,6\n",
        "text_points": "x,y,z\none,2,3\n",
        "nan_points": "x,y,z\nnan,2,3\n",
        "infinite_points": "x,y,z\n1e400,2,3\n",
        "short_points": "x,y,z\n1,2\n3,4,5\n",
        "no_points": "x,y,z\n",
        "empty_points": "",
        "four_points": "x,y,z,w,v\n1,2,3,4,5\n",
    }
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "latin_points.csv").write_bytes("x,y,z\n\xe9,2,3\n".encode("latin-1"))
    (folder / "binary_points.csv").write_bytes(rng.bytes(500))
    os.mkfifo(folder / "pipe.csv")
    markups = {"@schema": "markups-schema", "markups": [{"controlPoints": [{"position": [1, 2]}]}]}
    (folder / "bad.mrk.json").write_text(json.dumps(markups))
    (folder / "cut.mrk.json").write_text(json.dumps(markups)[:20])
    (folder / "list.json").write_text("[1, 2]")

    affine = SimpleITK.AffineTransform(3)
    affine.SetTranslation((1.0, 2.0, 3.0))
    SimpleITK.WriteTransform(affine, folder / "affine.tfm")
    text = (folder / "affine.tfm").read_text()
    (folder / "cut.tfm").write_text(text[:60])
    (folder / "nan.tfm").write_text(text.replace("Parameters: 1 ", "Parameters: nan ", 1))
    (folder / "singular.tfm").write_text(text.replace("Parameters: 1 0 0 0 1", "Parameters: 0 0 0 0 0", 1))
    (folder / "words.tfm").write_text("#Insight Transform File V1.0\nTransform: Mine_double_3_3\nParameters: a b\n")
    (folder / "text.mat").write_text("not a transform\n")
    (folder / "text.h5").write_text("not a transform\n")
    field = rng.standard_normal((*SHAPE, 3)).astype(np.float32)
    matrix = np.diag([1.5, 1.5, 2.0, 1.0])
    io.write_field(folder / "field.nii.gz", 0.1 * field, matrix)
    whole = (folder / "field.nii.gz").read_bytes()
    (folder / "cut_field.nii.gz").write_bytes(whole[: len(whole) // 2])
    written = nibabel.load(folder / "field.nii.gz")
    values = np.array(written.dataobj)
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("beyond", 1e300)):
        bad = values.astype(np.float64)
        bad[2, 2, 2, 0, 0] = value
        changed = nibabel.Nifti1Image(bad, written.affine)
        changed.header.set_intent("vector")
        nibabel.save(changed, folder / f"{name}_field.nii")
    two = nibabel.Nifti1Image(values[..., :2], written.affine)
    two.header.set_intent("vector")
    nibabel.save(two, folder / "two_component_field.nii")


def _stacks(folder: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 255, (8, 10, 12)).astype(np.uint8)
    np.savez(folder / "stack.npz", image=image)
    np.savez(folder / "stack_of_objects.npz", image=np.array([{}, {}], dtype=object))
    np.savez(folder / "stack_without_image.npz", other=image)
    np.savez(folder / "stack_of_nan.npz", image=np.full((8, 10, 12), np.nan, np.float32))
    np.savez(folder / "stack_of_complex.npz", image=image.astype(np.complex64))
    np.savez(folder / "stack_of_one.npz", image=image[:1])
    np.savez(folder / "stack_of_none.npz", image=image[:0])
    np.savez(folder / "stack_labels_misfit.npz", image=image, label=image[:, 1:])
    np.savez(folder / "stack_labels_of_floats.npz", image=image, label=image / 7.3)
    np.savez(folder / "stack_labels_negative.npz", image=image, label=-(image > 9).astype(np.int8))
    np.savez(folder / "stack_labels_large.npz", image=image, label=(image > 9).astype(np.int64) * (2**32 + 1))
    np.savez(folder / "stack_two_spacings.npz", image=image, spacing=np.ones(3))
    np.savez(folder / "stack_spacing_zero.npz", image=image, spacing=np.zeros(2))
    np.savez(folder / "stack_ids_misfit.npz", image=image, ids=np.array(["a", "b"]))
    np.savez(folder / "stack_split_unknown.npz", image=image, split=np.array(["mine"] * 8))
    whole = (folder / "stack.npz").read_bytes()
    (folder / "stack_cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "images_of_two_sizes").mkdir()
    for index, size in enumerate((10, 12)):
        Image.fromarray(image[index, :, :size]).save(folder / "images_of_two_sizes" / f"{index}.png")
    (folder / "images_text").mkdir()
    for index in range(4):
        (folder / "images_text" / f"{index}.png").write_text("not an image\n")
    (folder / "pairs_unknown.csv").write_text("fixed,moving\na,b\n")
    (folder / "pairs_empty.csv").write_text("")
