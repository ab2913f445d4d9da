"""The commands as a user calls them: help, mistakes, exit statuses, and the cost of an import."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import jax
import pytest
from helpers import REPOSITORY

import air_jax
from air_jax.errors import UserError
from air_jax.runtime import command_line, installation
from air_jax.workdir import config_list

# Runs each command line in a child of one process, so that the imports are paid once.
PROGRAM = """
import io, json, os, sys, tempfile
from air_jax.runtime import command_line
import air_jax.training.run, ml_collections.config_flags
found = []
for arguments in json.load(sys.stdin):
    files = [tempfile.TemporaryFile("w+") for _ in range(2)]
    child = os.fork()
    if child == 0:
        status = 1
        os.dup2(files[0].fileno(), 1), os.dup2(files[1].fileno(), 2)
        sys.argv = ["air-jax", *arguments]
        try:
            command_line.console()
            status = 0
        except SystemExit as error:
            status = error.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for file in files:
        file.seek(0)
        texts.append(file.read())
    found.append([status, *texts])
json.dump(found, sys.stdout)
"""

DIGITS = ["train", "--config=configs/digits.py"]
MISTAKES = [
    ([*DIGITS, "--config.zzz=1"], "--config.zzz: the config has no such key; air_jax.workdir.defaults lists"),
    (
        [*DIGITS, "--config.model.hed=dense"],
        "--config.model.hed: the config has no such key; did you mean --config.model.head?",
    ),
    ([*DIGITS, "--config.diffusion=1"], "did you mean --config.loss.diffusion?"),
    ([*DIGITS, "--config.seed=abc"], "--config.seed=abc: invalid literal for int()"),
    ([*DIGITS, "--config.seed=-1"], "--config.seed=-1: must be an integer, at least 0"),
    ([*DIGITS, "--config.model.head=spline"], "--config.model.head='spline': must be one of"),
    ([*DIGITS, "--config.model.width=15"], "--config.model.width=15: must be a multiple of"),
    ([*DIGITS, "--config.loss.similarity=nope"], "--config.loss.similarity='nope': must be one of"),
    ([*DIGITS, "--config.batch_size=0"], "--config.batch_size=0: must be an integer, at least 1"),
    ([*DIGITS, "--config.eval_every=150"], "must be a multiple of log_every"),
    ([*DIGITS, "--config.dataset.num_validation=2000"], "dataset.name='digits'"),
    ([*DIGITS, "digits"], "unexpected argument 'digits'"),
    ([*DIGITS, "--nope=1"], "Unknown command line flag 'nope'"),
    ([*DIGITS, "--num_processes=two"], "--num_processes=two"),
    (["train", "--config=configs/nowhere.py"], "--config=configs/nowhere.py: cannot be loaded"),
    (["train", "--config=configs/digit.py"], "did you mean --config=digits?"),
    (["train", "--config=mnits"], "--config=mnits: no shipped config has this name; did you mean --config=mnist?"),
    (["train", "--config=nowhere"], "air-jax train --list names all of them"),
    (["train"], "--config must be given"),
    (["evaluate"], "--workdir must be given"),
    (["register", "--fixed=a.nii.gz"], "--moving must be given"),
    (["draw"], "unknown command 'draw'; there are train, evaluate, register, apply"),
]


def outcomes(commands, cwd=REPOSITORY):
    """Exit status, standard output and standard error of each `air-jax` command line."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands),
        cwd=cwd,
        env=environment,
        text=True,
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    commands = [[*words, f"--workdir={workdir}"] if words[0] == "train" else words for words, _ in MISTAKES]
    return workdir, outcomes(commands)


@pytest.mark.parametrize("index", range(len(MISTAKES)), ids=[" ".join(words)[-40:] for words, _ in MISTAKES])
def test_a_mistake_ends_in_one_line_with_status_2_and_leaves_nothing(mistakes, index):
    workdir, found = mistakes
    status, _, error = found[index]
    assert status == 2, error
    assert MISTAKES[index][1] in error
    assert len(error.strip().splitlines()) == 1
    assert error.startswith("air_jax: ")
    assert not workdir.exists()


@pytest.mark.slow
def test_help_names_the_commands_and_their_flags():
    commands = [[], ["--help"], *([name, "--help"] for name in command_line.COMMANDS)]
    bare, overview, *helps = outcomes(commands)
    assert [status for status, *_ in (bare, overview, *helps)] == [0] * len(commands)
    assert bare == overview
    helps = dict(zip(command_line.COMMANDS, helps, strict=True))
    for name, (_, text, _) in helps.items():  # each with an example, of flags that the command has
        (example,) = re.findall(rf"^  {name} .*\n +air-jax {name}\b(.*)$", overview[1], re.MULTILINE)
        assert all(f"  --{flag}: " in text for flag in re.findall(r"--(\w+)=", example))
    train, evaluate, register = helps["train"], helps["evaluate"], helps["register"]
    assert "python -m air_jax.main --config=mnist" in train[1]
    assert "--coordinator_address: HOST:PORT" in train[1]
    assert "--workdir: Folder of a run." in evaluate[1]
    assert "--fixed_landmarks: " in register[1]


def test_every_config_is_listed_with_its_data_and_training(capsys):
    print(config_list.config_table())
    lines = capsys.readouterr().out.splitlines()
    for path in sorted((REPOSITORY / "configs").glob("*.py")):
        assert any(line.startswith(f"{path.stem} ") for line in lines)
    (digits,) = [line for line in lines if line.startswith("digits ")]
    assert digits.split("  ")[-1].strip() == "a minute on two CPU cores"
    assert "2,000 steps of 128 pairs" in digits


def test_the_installation_is_described_where_jax_finds_no_device(monkeypatch):
    def no_device():
        raise UserError("JAX_PLATFORMS=mine: cannot be used here")

    monkeypatch.setattr(installation, "all_devices", no_device)
    assert "device: none; JAX_PLATFORMS=mine: cannot be used here" in installation.describe_installation()


def test_the_installation_is_described(monkeypatch):
    text = installation.describe_installation()
    assert f"air_jax {air_jax.__version__} in {REPOSITORY / 'air_jax'}" in text
    assert f"jax {jax.__version__}" in text
    assert text.count("complete") >= 3  # the library, files and train, which the tests need
    with monkeypatch.context() as patch:
        patch.setattr(installation, "_version", lambda package: None if package == "nibabel" else "1.0")
        assert "nibabel>=5.3" in installation.missing_packages("files")
        assert "SimpleITK>=2.5" in installation.missing_packages("files")  # too old
        assert installation.missing_packages("") != []


@pytest.mark.slow
def test_folders_that_cannot_be_used_end_in_one_line_with_status_2(tmp_path):
    (tmp_path / "file").write_text("")
    commands = [["evaluate", f"--workdir={tmp_path / 'nothing'}"], [*DIGITS, f"--workdir={tmp_path / 'file' / 'run'}"]]
    for (status, _, error), message in zip(
        outcomes(commands), (f"is {tmp_path / 'nothing'} the workdir of a run?", "cannot be made"), strict=True
    ):
        assert status == 2
        assert message in error
        assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="with TensorFlow it would try to download"
)
def test_mnist_that_cannot_be_had_never_becomes_another_set(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "air_jax.main", "--config=configs/mnist.py", f"--workdir={tmp_path / 'run'}"],
        cwd=REPOSITORY,
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "needs TensorFlow" in result.stderr
    assert "configs/digits.py needs no download" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_import_stays_light():
    program = (
        "import sys, air_jax;"
        "heavy = {'tensorflow_datasets', 'tensorflow', 'orbax', 'ml_collections', 'matplotlib', 'sklearn', 'PIL'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


THREAD = """
import sys, threading
from air_jax.errors import UserError
from air_jax.runtime import command_line
threading.Thread(target=threading.Event().wait).start()  # as one of Orbax waits after a failed write
def main():
    raise UserError("no room")
sys.argv = ["air-jax"]
command_line.run(main)
"""


@pytest.mark.slow
def test_a_thread_that_waits_for_ever_does_not_keep_a_failed_command():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", THREAD], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "air_jax: no room\n")
