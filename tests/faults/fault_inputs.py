"""The folder in which the catalogue's rows run: good files, bad files, configs, and workdirs with one thing wrong."""

import gzip
import json
import os
import shutil
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
from PIL import Image

from air_jax import io

SHAPE = (12, 10, 9)

CONFIGS = {
    "syntax": "def get_config(:\n",
    "no_import": "import no_such_module_of_mine\n",
    "no_function": "x = 1\n",
    "plain_dict": "def get_config(): return {'seed': 1}\n",
    "none": "def get_config(): pass\n",
    "attribute": "import numpy\ndef get_config(): return numpy.no_such_thing\n",
    "key_error": "def get_config(): return {}['mine']\n",
    "value_error": "def get_config(): raise ValueError('mine\\nof two lines')\n",
    "zero": "def get_config(): return 1 / 0\n",
    "exits": "import sys\nsys.exit(3)\n",
    "argument": "def get_config(name): return name\n",
    "default": "from configs import digits\ndef get_config():\n"
    "    config = digits.get_config()\n    config.model.wdth = 3\n    return config\n",
    "no_model": "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'seed': 1})\n",
    "model_is_text": "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict({'model': 'air'})\n",
    "digits": "from configs import digits\ndef get_config():\n    config = digits.get_config()\n"
    "    config.num_train_steps, config.batch_size, config.log_every, config.eval_every = 5, 8, 2, 4\n"
    "    config.eval.num_pairs, config.eval.batch_size = 12, 8\n    config.compilation_cache = False\n"
    "    return config\n",
}


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
    for name, text in CONFIGS.items():
        (folder / f"config_{name}.py").write_text(text)
    (folder / "config_latin.py").write_bytes("# \xe9\nx = 1\n".encode("latin-1"))
    os.mkfifo(folder / "config_pipe.py")
    (folder / "config_folder.py").mkdir()
    _workdirs(folder, run)
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


def _workdirs(folder: Path, run: Path) -> None:
    def changed(name: str) -> Path:
        shutil.copytree(run, folder / name)
        return folder / name

    def with_config(name: str, change) -> None:
        workdir = changed(name)
        config = json.loads((workdir / "config.json").read_text())
        (workdir / "config.json").write_text(json.dumps(change(config)))

    def within(section: str, **values):
        return lambda config: config | {section: config[section] | values}

    changed("run")
    for name, content in {
        "null": b"null", "list": b"[1, 2]", "number": b"3", "text": b'"air"', "cut": b'{"seed": 0, "mod',
        "empty": b"", "latin": '{"seed": "\xe9"}'.encode("latin-1"), "deep": b"[" * 100_000,
    }.items():  # fmt: skip
        (changed(f"run_config_{name}") / "config.json").write_bytes(content)
    (changed("run_config_gone") / "config.json").unlink()
    pipe = changed("run_config_pipe") / "config.json"
    pipe.unlink()
    os.mkfifo(pipe)
    for name, shape in {
        "text": "large", "null": None, "nan": [float("nan"), 8, 1], "zero": [0, 8, 1], "negative": [-8, 8, 1],
        "fraction": [8.5, 8, 1], "short": [8], "long": [8, 8, 8, 8, 8, 1], "other": [16, 16, 1], "words": ["a", 8, 1],
        "huge": [10**9, 10**9, 1],
    }.items():  # fmt: skip
        with_config(f"run_shape_{name}", lambda config, shape=shape: config | {"image_shape": shape})
    with_config("run_shape_gone", lambda config: {k: v for k, v in config.items() if k != "image_shape"})
    for key, values in {
        "width": (32, "wide", None, -1, 16.5, [16]), "num_heads": (0, "x", None),
        "dropout": (2, "x", None, float("nan")), "head": ("none", 3, None), "patch_size": ("x", None, [0, 0]),
        "dtype": ("float64", 3, None), "name": ("no", 3, None), "recursive": ("x",),
    }.items():  # fmt: skip
        for index, value in enumerate(values):
            with_config(f"run_{key}_{index}", within("model", **{key: value}))
    with_config("run_model_text", lambda config: config | {"model": "air"})
    with_config("run_model_null", lambda config: config | {"model": None})
    with_config("run_loss_null", lambda config: config | {"loss": None})
    with_config("run_loss_text", within("loss", similarity=3))
    with_config("run_loss_negative", within("loss", diffusion=-1))
    with_config("run_loss_word", within("loss", diffusion="much"))
    with_config("run_refine_null", lambda config: config | {"refine": None})
    with_config("run_refine_field", within("refine", field=3))
    with_config("run_refine_sigma", within("refine", update_sigma="x"))
    with_config("run_dataset_null", lambda config: config | {"dataset": None})
    with_config("run_dataset_fraction", within("dataset", train_fraction="x"))
    with_config("run_dataset_name", within("dataset", name=3))
    with_config("run_normalization", within("dataset", normalization=3))
    with_config("run_eval_null", lambda config: config | {"eval": None})
    with_config("run_eval_pairs", within("eval", num_pairs="many"))
    with_config("run_eval_seed", within("eval", pairs_seed=2**40))
    with_config("run_seed_word", lambda config: config | {"seed": "one"})
    with_config("run_seed_null", lambda config: config | {"seed": None})
    with_config("run_batch_word", lambda config: config | {"batch_size": "many"})
    with_config("run_version", lambda config: config | {"format_version": 99})
    with_config("run_version_word", lambda config: config | {"format_version": "new"})
    with_config("run_unknown_key", lambda config: config | {"speling": 1})
    with_config("run_unknown_option", within("model", speling=1))

    log = (run / "metrics.jsonl").read_bytes()
    lines = log.splitlines(keepends=True)
    for name, content in {
        "latin": lines[0] + b'{"step": 2, "note": "\xe9"}\n' + lines[1], "no_step": b'{"loss": 1}\n' + log,
        "step_word": b'{"step": "two"}\n' + log, "step_null": b'{"step": null}\n' + log, "list": b"[1]\n" + log,
        "number": b"7\n" + log, "cut_inside": lines[0][:9] + b"\n" + log, "zeros": bytes(50) + b"\n" + log,
    }.items():  # fmt: skip
        (changed(f"run_log_{name}") / "metrics.jsonl").write_bytes(content)
    folder_as_log = changed("run_log_folder") / "metrics.jsonl"
    folder_as_log.unlink()
    folder_as_log.mkdir()
    pipe = changed("run_log_pipe") / "metrics.jsonl"
    pipe.unlink()
    os.mkfifo(pipe)

    shutil.rmtree(changed("run_no_checkpoints") / "checkpoints")
    (changed("run_squared") / "checkpoints" / "²").mkdir()  # is a digit for Python, but no number
    only = changed("run_only_squared")
    shutil.rmtree(only / "checkpoints")
    (only / "checkpoints" / "²").mkdir(parents=True)
    file = changed("run_checkpoints_file")
    shutil.rmtree(file / "checkpoints")
    (file / "checkpoints").write_text("mine")
    for step in ("4", "5"):
        empty = changed(f"run_empty_{step}") / "checkpoints" / step
        shutil.rmtree(empty)
        empty.mkdir()
    both = changed("run_damaged") / "checkpoints"
    for path in both.glob("*/params/**/d/*"):
        path.write_bytes(bytes(reversed(path.read_bytes())))
    (folder / "empty_workdir").mkdir()
    (folder / "file_workdir").write_text("mine")
    read_only = changed("run_read_only")
    for path in (read_only, read_only / "checkpoints", read_only / "figures"):
        path.chmod(0o555)
