"""Every bad input of the catalogue ends in one line that helps, with status 2, and leaves every file as it was.

A seeded sample runs by default; `AIR_JAX_FAULTS=all` runs the whole catalogue, as `.ci/full` does.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import fault_runner
import pytest
from fault_runner import Row, judge, read_catalogue
from helpers import REPOSITORY

SAMPLE = 60


def test_the_catalogue_has_at_least_300_rows_over_every_door():
    rows = read_catalogue()
    doors = Counter(row.door for row in rows)
    assert len(rows) >= 300
    assert set(doors) == {*fault_runner.DEFAULTS, "python"}
    few = {"samples": 25, "export": 25, "doctor": 3}  # doors with few flags, behind which is what others read also
    assert all(count >= few.get(door, 50) for door, count in doors.items())
    assert [text for text, count in Counter(row.text for row in rows).items() if count > 1] == []
    assert all(len(row.expected) >= 3 for row in rows), "an expected text that any line would have"


@pytest.fixture
def open_folder():
    """A folder that other users reach also: pytest's own are below private ones."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder


@pytest.mark.slow
def test_every_bad_input_ends_in_one_line_and_changes_nothing(finished_run, open_folder):
    sample = [] if os.environ.get("AIR_JAX_FAULTS") == "all" else [f"--sample={SAMPLE}"]
    done = subprocess.run(
        [sys.executable, Path(fault_runner.__file__), open_folder, finished_run, *sample],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) >= SAMPLE / 2
    wrong = [f"{result['wrong']}: {result['row']}\n{result['stderr'][-500:]}" for result in results if result["wrong"]]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(results)}:", *wrong])


ROW = Row("register", "--fixed=a", "a: not found")
GOOD = {"status": 2, "stderr": "air_jax: a: not found; give an image\n", "megabytes": 3}


@pytest.mark.parametrize(
    ("change", "changed", "wrong"),
    [
        ({}, [], ""),
        ({"status": 0}, [], "status 0"),
        ({"status": -signal.SIGALRM}, [], "hangs"),
        ({"stderr": "Traceback (most recent call last):\n"}, [], "traceback"),
        ({"stderr": GOOD["stderr"] * 2}, [], "2 lines"),
        ({"stderr": ""}, [], "0 lines"),
        ({"stderr": "a: not found\n"}, [], "not our line"),
        ({"stderr": "air_jax: b: not found\n"}, [], "another line"),
        ({}, ["out"], "changed out"),
        ({"megabytes": 5000}, [], "5000 MB"),
    ],
)
def test_the_rule_finds_each_fault(change, changed, wrong):
    assert judge(ROW, GOOD | change, changed) == wrong


def test_the_state_of_a_folder_shows_new_changed_and_removed_files(tmp_path):
    (tmp_path / "kept").write_text("a")
    (tmp_path / "removed").write_text("a")
    before = fault_runner.state(tmp_path)
    assert fault_runner.state(tmp_path) == before
    (tmp_path / "kept").write_text("ab")
    (tmp_path / "removed").unlink()
    (tmp_path / "folder").mkdir()
    after = fault_runner.state(tmp_path)
    differ = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert differ == {"kept", "removed", "folder"}


def test_rows_have_default_flags_and_variables_of_the_environment():
    variables, arguments = fault_runner.words_of(Row("evaluate", r"HOME= '--a=b\nc' {long}.nii", ""))
    assert variables == {"HOME": ""}
    assert arguments == ["--workdir=run", "--a=b\nc", 300 * "x" + ".nii"]
    assert fault_runner.words_of(Row("evaluate", "--workdir=other", ""))[1] == ["--workdir=other"]
    assert fault_runner.words_of(Row("evaluate", "--workdir=<none>", ""))[1] == []
