"""Runs that a signal stops save their state, lose no step, and go on bit for bit."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from air_jax import UserError
from air_jax.errors import StoppedError
from air_jax.runtime.signals import stop_requests
from air_jax.training import run
from air_jax.workdir import log
from air_jax.workdir.config import FILE_NAME


def lines_of(workdir):
    read = (json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if "second" not in key} for line in read]


@pytest.fixture
def config(digits_config, monkeypatch):
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {})
    digits_config.num_train_steps, digits_config.log_every, digits_config.eval_every = 6, 2, 4
    return digits_config


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at"), [("SIGTERM", 2), ("SIGHUP", 4), ("SIGINT", 2)])
def test_a_stopped_run_loses_no_step_and_goes_on_bit_for_bit(config, tmp_path, monkeypatch, name, at):
    """Step 4 is validated, step 2 is not."""
    run.train(config, tmp_path / "whole")

    def killing(workdir, line, append=log.append):
        append(workdir, line)
        if line["step"] == at and "loss" in line:
            os.kill(os.getpid(), signal.Signals[name])

    with monkeypatch.context() as patched:
        patched.setattr(log, "append", killing)
        with pytest.raises(StoppedError, match=f"{name}: step {at} is saved in .*; the same command goes on"):
            run.train(config, tmp_path / "stopped")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert max(int(path.name) for path in (tmp_path / "stopped" / "checkpoints").iterdir()) == at
    run.train(config, tmp_path / "stopped")
    assert lines_of(tmp_path / "stopped") == lines_of(tmp_path / "whole")
    folders = [tmp_path / name / "checkpoints" / "6" / "params" for name in ("whole", "stopped")]
    with ocp.StandardCheckpointer() as checkpointer:
        jax.tree.map(np.testing.assert_array_equal, *map(checkpointer.restore, folders))


def test_a_second_signal_ends_at_once():
    with stop_requests() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.name == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_a_run_that_lost_its_config_is_not_continued(finished_run, config, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run" / FILE_NAME).unlink()
    with pytest.raises(UserError, match=r"has checkpoints but no config\.json"):
        run.train(config, tmp_path / "run")
