"""Folders of saved models with one thing wrong, tables of pairs, and folders of subjects, good and bad."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

MODEL = Path(__file__).parents[2] / "air_jax" / "pretrained" / "shapes-2d"
NAN, INF = float("nan"), float("inf")
# Values of the config of a saved model, by the name of the folder.
VALUES = {
    "version_new": {"format_version": 99}, "version_true": {"format_version": True},
    "format": {"format": "another"}, "no_model": {"model": None}, "model_list": {"model": [1]},
    "model_name": {"model.name": "vit"}, "width_word": {"model.width": "wide"}, "width_other": {"model.width": 64},
    "width_huge": {"model.width": 2**30}, "model_key": {"model.speling": 1}, "heads_none": {"model.num_heads": 0},
    "sigma_nan": {"model.total_sigma": NAN}, "radius_huge": {"model.radius": [10**9] * 3},
    "steps_huge": {"model.num_steps": [10**9] * 3},
    "shape_true": {"image_shape": [16, 16, True]}, "shape_huge": {"image_shape": [10**9, 10**9, 1]},
    "shape_channels": {"image_shape": [16, 16, 10**12]}, "shape_volume": {"image_shape": [16, 16, 16, 1]},
    "normalization": {"normalization": "zscore"}, "normalization_none": {"normalization": None},
    "refine_negative": {"refine_steps": -1}, "refine_word": {"refine_steps": "many"},
    "refine_huge": {"refine_steps": 10**20}, "edges": {"edges": "x"}, "overlap_nan": {"overlap_weight": NAN},
    "overlap_negative": {"overlap_weight": -1.0}, "overlap_word": {"overlap_weight": "much"},
    "step_word": {"step": "last"}, "similarity": {"objective.similarity": "ssd"}, "window": {"objective.window": 4},
    "weight_nan": {"objective.weights": {"diffusion": NAN}}, "weight_word": {"objective.weights": {"diffusion": "x"}},
    "weight_name": {"objective.weights": {"smooth": 1.0}}, "weights_list": {"objective.weights": [1.0]},
    "field_name": {"field.name": "mesh"}, "field_word": {"field.update_sigma": "x"},
    "field_nan": {"field.update_sigma": NAN}, "field_key": {"field.speling": 1}, "field_levels": {"field.levels": [0]},
    "digest": {"parameters.sha256": "0" * 64}, "digest_number": {"parameters.sha256": 3},
    "number": {"parameters.number": 3}, "no_parameters": {"parameters": None}, "segmenter": {"segmenter": {"model": 3}},
}  # fmt: skip


def make_models(folder: Path) -> None:
    """Makes copies of the shipped model, each with one thing wrong: `model_version_new` and so on."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(MODEL, folder / f"model_{name}"))

    def changed(name: str, change: Callable[[dict], None]) -> None:
        path = copied(name) / "config.json"
        config = json.loads(path.read_text())
        change(config)
        path.write_text(json.dumps(config))

    copied("whole")
    for name, values in VALUES.items():
        changed(name, lambda config, values=values: _set(config, values))
    changed("no_field", lambda config: config.pop("field"))
    changed("no_step", lambda config: config.pop("step"))
    weights = (MODEL / "model.safetensors").read_bytes()
    flipped = bytearray(weights)
    flipped[-40] ^= 16
    for name, content in {
        "cut": weights[: len(weights) // 2], "empty": b"", "text": b"not weights\n" * 9, "flipped": bytes(flipped),
        "longer": weights + b"more", "header": (2**62).to_bytes(8, "little") + weights[8:],
    }.items():  # fmt: skip
        (copied(f"weights_{name}") / "model.safetensors").write_bytes(content)
    (copied("weights_gone") / "model.safetensors").unlink()
    for name, content in {"cut": b'{"format": "air_jax mo', "empty": b"", "list": b"[]", "deep": b"[" * 99999}.items():
        (copied(f"config_{name}") / "config.json").write_bytes(content)
    (copied("config_gone") / "config.json").unlink()
    for name in ("config.json", "model.safetensors"):
        path = copied(f"pipe_{name.split('.')[0]}") / name
        path.unlink()
        os.mkfifo(path)
        path = copied(f"folder_{name.split('.')[0]}") / name
        path.unlink()
        path.mkdir()


def _set(config: dict, values: dict) -> None:
    for key, value in values.items():
        *sections, last = key.split(".")
        place = config
        for section in sections:
            place = place[section]
        place[last] = value


PAIRS = {
    "good": "fixed,moving\nfixed.nii.gz,moving.nii.gz\n",
    "nothing": "",
    "header": "fixed,moving\n",
    "blank": "\n\n\n",
    "unknown_column": "fixed,moving,colour\nfixed.nii.gz,moving.nii.gz,red\n",
    "two_columns": "fixed,moving,moving\nfixed.nii.gz,moving.nii.gz,moving.nii.gz\n",
    "no_moving_column": "fixed,labels\nfixed.nii.gz,labels.nii.gz\n",
    "capital": "Fixed,Moving\nfixed.nii.gz,moving.nii.gz\n",
    "short_row": "fixed,moving\nfixed.nii.gz\n",
    "long_row": "fixed,moving\nfixed.nii.gz,moving.nii.gz,labels.nii.gz\n",
    "no_moving": "fixed,moving\nfixed.nii.gz,\n",
    "twice": "fixed,moving\n" + 2 * "fixed.nii.gz,moving.nii.gz\n",
    "twice_by_case": "fixed,moving,output\nfixed.nii.gz,moving.nii.gz,a\nfixed.nii.gz,moving.nii.gz,A\n",
    "output_parent": "fixed,moving,output\nfixed.nii.gz,moving.nii.gz,..\n",
    "output_below": "fixed,moving,output\nfixed.nii.gz,moving.nii.gz,a/b\n",
    "output_absolute": "fixed,moving,output\nfixed.nii.gz,moving.nii.gz,/tmp\n",
    "output_summary": "fixed,moving,output\nfixed.nii.gz,moving.nii.gz,summary\n",
    "output_hidden": "fixed,moving,output\nfixed.nii.gz,moving.nii.gz,.git\n",
    "output_long": f"fixed,moving,output\nfixed.nii.gz,moving.nii.gz,{300 * 'x'}\n",
    "output_newline": 'fixed,moving,output\nfixed.nii.gz,moving.nii.gz,"a\nb"\n',
    "null": "fixed,moving\nfixed.nii.gz,mov\0ing.nii.gz\n",
    "home": "fixed,moving\nfixed.nii.gz,~nobody_has_this_name/x.nii\n",
    "quote": 'fixed,moving\nfixed.nii.gz,"moving.nii.gz\n',
    "labels_alone": "fixed,moving,fixed_labels\nfixed.nii.gz,moving.nii.gz,labels.nii.gz\n",
    "landmarks_alone": "fixed,moving,fixed_landmarks\nfixed.nii.gz,moving.nii.gz,points.csv\n",
    "huge_cell": f"fixed,moving\nfixed.nii.gz,{200_000 * 'x'}\n",
    "long_path": f"fixed,moving\nfixed.nii.gz,{300 * 'x'}.nii\n",
    "lost": "fixed,moving\nfixed.nii.gz,no_such.nii\n",
}


def make_further_tables(folder: Path) -> None:
    """Makes tables of pairs that are no tables of `fault_batches`, `table_nothing.csv` and so on."""
    for name, text in PAIRS.items():
        (folder / f"table_{name}.csv").write_text(text)
    (folder / "table_latin.csv").write_bytes("fixed,moving\nfix\xe9.nii,moving.nii.gz\n".encode("latin-1"))
    (folder / "table_utf16.csv").write_bytes("fixed,moving\nfixed.nii.gz,moving.nii.gz\n".encode("utf-16"))


def make_subjects(folder: Path, rng: np.random.Generator) -> None:
    """Makes folders with images of a group, `group` and so on, and `subject_labels` with their segmentations."""
    shape, ras = (12, 10, 9), np.diag([-1.5, -1.5, 2.0, 1.0])

    def nifti(path: str, array: np.ndarray, matrix: np.ndarray = ras) -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, matrix), folder / path)

    def image() -> np.ndarray:
        return rng.random(shape).astype(np.float32)

    away = ras + np.array([[0, 0, 0, 1e9]] * 3 + [[0, 0, 0, 0]])
    apart = ras + np.array([[0, 0, 0, 5e4]] * 3 + [[0, 0, 0, 0]])
    second = {
        "group": (image(), ras), "subjects_constant": (np.ones(shape, np.float32), ras),
        "subjects_nan": (np.full(shape, NAN, np.float32), ras), "subjects_away": (image(), away),
        "subjects_apart": (image(), apart), "subjects_slice": (image()[:, :, :1], ras),
        "subjects_four_axes": (np.stack([image(), image()], axis=-1), ras),
        "subjects_complex": (image().astype(np.complex64), ras),
        "subjects_tiny": (image(), np.diag([1e-20, 1e-20, 1e-20, 1.0])),
        "subjects_small": (image(), np.diag([-1e-3, -1e-3, 1e-3, 1.0])),
    }  # fmt: skip
    for name, (array, matrix) in second.items():
        nifti(f"{name}/a.nii", image())
        nifti(f"{name}/b.nii", array, matrix)
    for name in ("subjects_cut", "subjects_text", "subjects_pipe", "subjects_picture", "subjects_same_name"):
        nifti(f"{name}/a.nii", image())
        nifti(f"{name}/b.nii", image())
    cut = folder / "subjects_cut" / "b.nii"
    cut.write_bytes(cut.read_bytes()[:600])
    (folder / "subjects_text" / "b.nii").write_text("not an image\n" * 40)
    (folder / "subjects_pipe" / "b.nii").unlink()
    os.mkfifo(folder / "subjects_pipe" / "b.nii")
    (folder / "subjects_picture" / "b.nii").unlink()
    Image.fromarray(rng.integers(0, 255, (12, 10), dtype=np.uint8)).save(folder / "subjects_picture" / "b.png")
    nifti("subjects_same_name/a.nii.gz", image())
    nifti("subjects_one/a.nii", image())
    labels = (image() > 0.5).astype(np.int16)
    nifti("subject_labels/a.nii", labels)
    nifti("subject_labels/b.nii", labels)
    nifti("subject_labels_missing/a.nii", labels)
    nifti("subject_labels_more/a.nii", labels)
    nifti("subject_labels_more/b.nii", labels)
    nifti("subject_labels_more/c.nii", labels)
    nifti("subject_labels_shape/a.nii", labels)
    nifti("subject_labels_shape/b.nii", labels[:-1])
    nifti("subject_labels_floats/a.nii", labels)
    nifti("subject_labels_floats/b.nii", image())
    nifti("subject_labels_negative/a.nii", labels)
    nifti("subject_labels_negative/b.nii", -labels)
    nifti("subject_labels_apart/a.nii", labels)
    nifti("subject_labels_apart/b.nii", labels, apart)
