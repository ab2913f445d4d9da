"""The trials of `experiments.reliability`, a few of each kind: nothing is lost, nothing goes unnoticed."""

import json
import os
import subprocess
import sys

import pytest
from helpers import REPOSITORY


@pytest.mark.slow
def test_kills_stops_damage_and_full_disks_lose_nothing(tmp_path):
    """In a process of its own, which has started no threads when it forks."""
    if os.environ.get("AIR_JAX_FAULTS") != "all":
        pytest.skip("takes minutes; AIR_JAX_FAULTS=all runs it")
    command = [
        sys.executable,
        "-m",
        "experiments.reliability",
        f"--output={tmp_path / 'found.json'}",
        "--share=0.02",
    ]
    kinds = ("killed", "damaged", "two runs", "full disk", "read-only")
    done = subprocess.run(
        [*command, "--only", *kinds],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == set(kinds)
    assert found["killed"]["bit-equal"] == found["killed"]["tried"] >= 2
    assert found["damaged"]["noticed or the same"] == found["damaged"]["tried"]
    assert found["damaged"]["noticed"] > 0
    for kind in ("two runs", "full disk", "read-only"):
        assert found[kind]["bit-equal"] == found[kind]["tried"] >= 1
    assert found["two runs"]["one refused"] == found["two runs"]["tried"]
    for kind in ("full disk", "read-only"):
        assert found[kind]["one line"] == found[kind]["tried"]
