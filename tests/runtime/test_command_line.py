"""The programs as a user calls them: overrides, mistakes, and what an import costs."""

import importlib.util
import os
import subprocess
import sys

import pytest
from helpers import REPOSITORY


def run(*arguments, module="air_jax.main", **environment):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/digits.py", "--config.nope=1"], "'nope'"),
        (["--config=configs/digits.py", "--config.model.nope=1"], "'nope'"),
        (["--config=configs/digits.py", "--config.seed=abc"], "--config.seed=abc: invalid literal for int()"),
        (["--config=configs/digits.py", "--config.model.head=spline"], "--config.model.head='spline': must be one of"),
        (["--config=configs/digits.py", "--config.model.width=15"], "--config.model.width=15: must be a multiple of"),
        (
            ["--config=configs/digits.py", "--config.loss.similarity=nope"],
            "--config.loss.similarity='nope': must be one of",
        ),
        (["--config=configs/digits.py", "--config.batch_size=0"], "--config.batch_size=0: must be positive"),
        (["--config=configs/digits.py", "--config.eval_every=150"], "must be a multiple of log_every"),
        (["--config=configs/digits.py", "--config.dataset.num_validation=2000"], "dataset.name='digits'"),
        (["--config=configs/digits.py", "digits"], "unexpected argument 'digits'"),
        (["--config=configs/nowhere.py"], "--config=configs/nowhere.py: cannot be loaded"),
        ([], "--config must be given"),
    ],
)
def test_a_mistake_ends_in_one_line_and_leaves_nothing(tmp_path, arguments, message):
    workdir = tmp_path / "run"
    result = run(*arguments, f"--workdir={workdir}")
    assert result.returncode != 0
    assert message in result.stderr
    # absl adds a second line, on --help, to its own message about a value of the wrong type.
    assert len(result.stderr.strip().splitlines()) <= 2
    assert "Traceback" not in result.stderr
    assert not workdir.exists()


def test_evaluate_without_a_run(tmp_path):
    result = run(f"--workdir={tmp_path / 'nothing'}", module="air_jax.evaluate")
    assert result.returncode == 1
    assert result.stderr.strip().endswith(f"is {tmp_path / 'nothing'} the workdir of a run?")
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--config=configs/digits.py", f"--workdir={tmp_path / 'file' / 'run'}")
    assert result.returncode == 1
    assert "cannot be made" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="with TensorFlow it would try to download"
)
def test_mnist_that_cannot_be_had_never_becomes_another_set(tmp_path):
    result = run("--config=configs/mnist.py", f"--workdir={tmp_path / 'run'}", TFDS_DATA_DIR=str(tmp_path))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "needs TensorFlow" in result.stderr
    assert "configs/digits.py needs no download" in result.stderr
    assert not (tmp_path / "run").exists()


def test_import_stays_light():
    program = (
        "import sys, air_jax;"
        "heavy = {'tensorflow_datasets', 'tensorflow', 'orbax', 'ml_collections', 'matplotlib', 'sklearn', 'PIL'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
