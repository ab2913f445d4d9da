"""The output folder: only own files are replaced, inputs stay, and an interrupted result counts as incomplete."""

import json
import multiprocessing
import os
import signal

import pytest

from air_jax import UserError
from air_jax.file_registration.folder import SCORES, begin, output_folder

NAMES = ["warped.nii.gz", "report.png"]


def write(folder, names, text):
    for name in names:
        (folder / name).write_text(text)
    (folder / SCORES).write_text(json.dumps({"version": "air_jax 1", "files": list(names)}))


def refused(folder, match, inputs=()):
    with pytest.raises(UserError, match=match) as error, output_folder(folder, NAMES, inputs):
        pytest.fail("the folder was taken")
    assert "\n" not in str(error.value)


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_folder_is_made_and_complete(tmp_path):
    with output_folder(tmp_path / "a" / "out", NAMES, []):
        begin(tmp_path / "a" / "out")
        write(tmp_path / "a" / "out", NAMES, "new")
    assert set(content(tmp_path / "a" / "out")) == {*NAMES, SCORES}


def test_a_failure_before_the_first_file_leaves_everything_as_it_was(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(RuntimeError), output_folder(folder, NAMES, []):
        raise RuntimeError
    assert not folder.exists()
    folder.mkdir()
    write(folder, NAMES, "old")
    before = content(folder)
    with pytest.raises(RuntimeError), output_folder(folder, NAMES, []):
        raise RuntimeError
    assert content(folder) == before


def test_files_of_an_earlier_result_are_replaced_and_those_of_the_user_stay(tmp_path):
    write(tmp_path, ["warped.png", "report.png"], "old")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "warped.tif").write_text("mine")
    with output_folder(tmp_path, NAMES, []):
        begin(tmp_path)
        write(tmp_path, NAMES, "new")
    assert set(content(tmp_path)) == {*NAMES, SCORES, "notes.txt", "warped.tif"}
    assert (tmp_path / "warped.tif").read_text() == "mine"


def test_a_result_of_a_version_without_a_list_is_replaced(tmp_path):
    for name in ("displacement.nii.gz", "warped.nii", "landmarks.csv"):
        (tmp_path / name).write_text("old")
    (tmp_path / SCORES).write_text('{"before": {}, "after": {}, "version": "air_jax 0.1.0, jax 0.12"}')
    with output_folder(tmp_path, ["displacement.nii.gz"], []):
        begin(tmp_path)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("name", ["warped.nii.gz", "report.png", SCORES])
def test_a_file_of_the_user_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("{}")
    refused(tmp_path, f"{name}: is not of an earlier registration")
    assert content(tmp_path) == {name: "{}"}


def test_a_symbolic_link_of_someone_else_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("safe")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.png").symlink_to(tmp_path / "victim")
    refused(tmp_path / "out", r"report\.png: is not of an earlier registration")
    assert (tmp_path / "victim").read_text() == "safe"


def test_an_output_that_is_an_input_is_refused(tmp_path):
    write(tmp_path, NAMES, "old")
    before = content(tmp_path)
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "warped.nii.gz")
    for path in ("warped.nii.gz", "link.nii.gz"):
        refused(tmp_path, r"its warped\.nii\.gz is read by this command", [tmp_path / path])
    (tmp_path / "link.nii.gz").unlink()
    assert content(tmp_path) == before


def _hold(folder, held, release):
    with output_folder(folder, NAMES, []):
        begin(folder)
        (folder / NAMES[0]).write_text("half")
        held.set()
        release.wait(60)


@pytest.mark.slow
def test_a_second_registration_is_refused_and_a_killed_one_can_be_replaced(tmp_path):
    write(tmp_path, NAMES, "old")
    context = multiprocessing.get_context("forkserver")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(60)
    refused(tmp_path, "another registration is writing into it")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / SCORES).exists()
    assert (tmp_path / NAMES[0]).read_text() == "half"
    with output_folder(tmp_path, NAMES, []):
        begin(tmp_path)
        write(tmp_path, NAMES, "new")
    assert set(content(tmp_path)) == {*NAMES, SCORES}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    refused(tmp_path, "cannot be written")
