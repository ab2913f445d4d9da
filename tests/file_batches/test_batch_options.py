"""The list of pairs of a batch: tables, folders, and mistakes that are found before any work."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from air_jax import UserError, io
from air_jax.file_batches.options import BatchOptions, list_pairs
from air_jax.file_batches.summary import check_summary
from air_jax.file_registration.guiding import Guiding
from air_jax.registration import pretrained_folder


def table(folder, text):
    path = folder / "pairs.csv"
    path.write_text(text)
    return BatchOptions(folder / "out", pairs=path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_paths_start_at_the_table(tmp_path, delimiter):
    text = "fixed,moving,output\na/f.nii.gz,m.nii.gz,one\n\nb.png,/tmp/c.d.png,\n".replace(",", delimiter)
    found = list_pairs(table(tmp_path, "\ufeff" + text))
    assert list(found) == ["one", "c.d_to_b"]
    assert found["one"].fixed == tmp_path / "a" / "f.nii.gz"
    assert found["one"].output_dir == tmp_path / "out" / "one"
    assert str(found["c.d_to_b"].moving) == "/tmp/c.d.png"


def test_paths_do_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    whole = list_pairs(table(tmp_path, "fixed,moving\nf.nii.gz,m.nii.gz\n"))
    monkeypatch.chdir(tmp_path)
    assert list_pairs(BatchOptions(Path("out"), pairs=Path("pairs.csv"))) == whole


def test_a_folder_is_registered_to_one_reference(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "reference.nii.gz", "notes.txt", "mask.nii.gz", "bone.nii.gz", "._a.nii.gz"):
        (tmp_path / name).write_text("")
    found = list_pairs(
        BatchOptions(
            tmp_path / "out",
            images=tmp_path,
            reference=tmp_path / "reference.nii.gz",
            fixed_mask=tmp_path / "mask.nii.gz",
            affine="rigid",
            guiding=Guiding(rigid_region=tmp_path / "bone.nii.gz"),
        )
    )
    assert list(found) == ["a", "b"]
    files = {(pair.fixed.name, pair.fixed_mask.name, pair.guiding.rigid_region.name) for pair in found.values()}
    assert files == {("reference.nii.gz", "mask.nii.gz", "bone.nii.gz")}
    assert {pair.affine for pair in found.values()} == {"rigid"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fixed,moving,mask\na,b,c\n", "unknown column 'mask'; there are fixed, moving, labels"),
        ("fixed,output\na,b\n", "lacks the column 'moving'"),
        ("fixed,moving,fixed\na,b,c\n", "line 2: --fixed names 2 image.* and --moving 1"),
        ("fixed,moving,output,output\na,b,c,d\n", "the column 'output' occurs twice"),
        ("fixed,moving,guide_landmarks\na,b,c\n", "line 2: --guide_landmarks and --fixed_guide_landmarks are"),
        ("fixed,moving,guide_weight\na,b,1\n", "line 2: --guide_weight needs --guide_landmarks"),
        ("fixed,moving,guide_tolerance\na,b,near\n", "line 2: guide_tolerance=near: must be a number"),
        ("fixed,moving,guide_tolerance\na,b,1_0\n", "line 2: guide_tolerance=1_0: must be a number"),
        ("fixed,moving,contrast_weights\na,b,1 2\n", "line 2: --contrast_weights=1 2: must be numbers"),
        ("fixed,moving\na,b\nc\n", "line 3: has 1 cells, the first line has 2"),
        ("fixed,moving\na,\n", "line 2: names no moving image"),
        ("fixed,moving,output\na,b,x\nc,d,X\n", "line 3: has the output 'X', and so has .*line 2"),
        ("fixed,moving,output\na,b,../x\n", "must be the name of a folder"),
        ("fixed,moving,output\na,b,summary.csv\n", "must be the name of a folder"),
        ("fixed,moving,fixed_labels\na,b,c\n", "line 2: --fixed_labels needs --labels"),
        ("fixed,moving,output\na,out/x/b,x\n", "is read and lies in the folder of a result"),
        ("fixed,moving\n", "holds no pair"),
        ("\n", "lacks the column 'fixed'"),
        ("", "is empty; give a table of pairs"),
    ],
)
def test_mistakes_in_a_table_are_found_before_any_work(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        list_pairs(table(tmp_path, text))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_columns_guide_each_pair_and_flags_all(tmp_path):
    text = (
        "fixed,fixed,moving,moving,contrast_weights,keep_volume,guide_landmarks,fixed_guide_landmarks,guide_weight\n"
        'a1,a2,b1,b2,"1,0.5",kept,p.csv,q.csv,\na1,,b2,,,,p.csv,q.csv,2\na1,,b3,,,,,,\n'
    )
    guiding = Guiding(smoothness=2.0, restrict="1,0,1", guide_weight=0.5, guide_tolerance=3.0)
    given = dataclasses.replace(table(tmp_path, text), fast=True, max_size=64, guiding=guiding)
    first, second, third = list_pairs(given).values()
    assert {(pair.fast, pair.max_size, pair.guiding.smoothness) for pair in (first, second, third)} == {(True, 64, 2.0)}
    assert (first.fixed, first.moving) == (tmp_path / "a1", tmp_path / "b1")
    assert first.guiding.fixed_contrasts == (tmp_path / "a2",)
    assert first.guiding.moving_contrasts == (tmp_path / "b2",)
    assert first.guiding.contrast_weights == "1,0.5"
    assert first.guiding.keep_volume == tmp_path / "kept"
    assert first.guiding.guide_landmarks == tmp_path / "p.csv"
    assert (first.guiding.guide_weight, first.guiding.guide_tolerance) == (0.5, 3.0)
    assert second.guiding.fixed_contrasts == ()
    assert second.guiding.guide_weight == 2.0  # a cell is before the flag
    assert third.guiding == Guiding(smoothness=2.0, restrict="1,0,1")  # it has no landmarks, and the flags do not hold


def test_a_pretrained_model_is_that_of_all_pairs(tmp_path):
    given = dataclasses.replace(table(tmp_path, "fixed,moving\na,b\n"), pretrained="shapes-2d")
    (pair,) = list_pairs(given).values()
    assert pair.workdir == pretrained_folder("shapes-2d")


def test_flags_that_do_not_fit_are_refused(tmp_path):
    image = tmp_path / "a.nii.gz"
    io.write_image(image, np.zeros((4, 4), np.float32), np.eye(3))
    folder = {"images": tmp_path, "reference": image}
    for options, message in (
        ({}, "give either --pairs or --images"),
        ({"pairs": image, **folder}, "give either --pairs or --images"),
        ({"images": tmp_path}, "belong together"),
        ({"pairs": image, "fixed_mask": image}, "--fixed_mask is of --reference; in --pairs it is a column"),
        ({"pairs": image, "guiding": Guiding(keep_volume=image)}, "--keep_volume is of --reference; in --pairs"),
        ({"pairs": tmp_path / "nowhere.csv"}, "nowhere.csv: not found; give a table of pairs"),
        (folder | {"reference": tmp_path / "nowhere.png"}, "nowhere.png: not found"),
        (folder | {"similarity": "nope"}, "^--similarity=nope: must be one of"),
    ):
        with pytest.raises(UserError, match=message):
            list_pairs(BatchOptions(tmp_path / "out", **options))
    with pytest.raises(UserError, match="is the folder of the images"):
        list_pairs(BatchOptions(tmp_path, images=tmp_path, reference=table(tmp_path, "").pairs))


def test_a_summary_of_the_users_is_not_replaced(tmp_path):
    (tmp_path / "summary.csv").write_text("mine\n")
    with pytest.raises(UserError, match=r"summary\.csv: is not of an earlier batch"):
        check_summary(tmp_path)
    (tmp_path / "summary.csv").write_text("output,status,fixed,moving,more\n")
    check_summary(tmp_path)
