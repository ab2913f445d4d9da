"""The benchmark runs every piece of air_jax's work once, small."""

import subprocess
import sys

import jax
import pytest
from helpers import REPOSITORY

from experiments.benchmark import jax_contender
from experiments.benchmark.works import works

SHAPE = (6, 7, 8)


@pytest.mark.slow
@pytest.mark.parametrize("work", works([16], SHAPE, 1))
def test_air_jax_runs_every_piece_of_work(work, monkeypatch):
    monkeypatch.setattr(jax_contender, "use_cores", lambda _: None)  # too late: JAX has started
    call, cost = jax_contender.prepare(work, SHAPE, 1)
    jax.block_until_ready(call())
    assert ("flops" in cost) == (not work.startswith("warp_"))
    assert all(value > 0 for value in cost.values())


def test_a_call_repeats_its_work_as_often_as_it_counts():
    started = []
    assert jax_contender._repeated(lambda: started.append(1) or len(started), 5)() == 5
    assert len(started) == 5
    once, often = (works([16], SHAPE, times) for times in (1, 5))
    for name, work in often.items():
        times = 1 if name.startswith("train_") else 5
        assert (work.in_a_row, work.count) == (times, times * once[name].count)
        assert work.bytes == (once[name].bytes and times * once[name].bytes)


@pytest.mark.slow
def test_the_command_writes_json_and_a_table(tmp_path):
    command = [sys.executable, "-m", "experiments.benchmark", "--works", "warp_1_forward", "--contenders", "air_jax"]
    command += ["--rounds", "1", "--volume_shape", *map(str, SHAPE), "--output", str(tmp_path / "found.json")]
    done = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.json").exists()
    assert "| warp 1 x 6x7x8: forward | air_jax |" in (tmp_path / "found.md").read_text()
