"""Two real processes on this machine train together: their results, their files, their failures."""

import contextlib
import dataclasses
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from helpers import FASTEST_UNET, REPOSITORY, environment_with_devices

from air_jax.data import load_dataset
from air_jax.errors import UserError
from air_jax.runtime import parallel, processes
from air_jax.training import run as train_module
from air_jax.training.optimizer import make_optimizer
from air_jax.training.pair_loss import pair_loss
from air_jax.training.recipe import training_recipe
from air_jax.training.steps import TrainState, init_params, init_state, make_train_steps
from air_jax.workdir.checkpoint import Checkpoints
from air_jax.workdir.config import SavedConfig, complete, write
from air_jax.workdir.recipe import build_model

needs_gloo = pytest.mark.skipif(
    jax.config.jax_cpu_collectives_implementation != "gloo", reason="JAX has no gloo collectives for CPUs here"
)
IMAGE_SHAPE = (28, 28, 1)
SETTINGS = {"batch_size": 8, "log_every": 1, "eval_every": 10, "eval.num_pairs": 12, "eval.batch_size": 8}
SETTINGS |= {"dataset.name": "digits", "dataset.num_validation": 200, "schedule": "constant"}
SETTINGS |= {f"model.{name}": value for name, value in FASTEST_UNET.items()}
# One step later a checkpoint is written, for the gradient, and at the end, ten steps later, the next.
START, END = 9, 19
TIMEOUT = 400  # seconds; an idle machine needs less than a tenth


def small_config(num_train_steps):
    from configs import mnist_unet

    config = mnist_unet.get_config()
    config.update_from_flattened_dict({**SETTINGS, "num_train_steps": num_train_steps})
    return config


RECIPE = training_recipe(small_config(END))
MODEL = build_model(small_config(END).model)
OPTIMIZER = make_optimizer(**dataclasses.asdict(RECIPE.optimizer))


def initial_state():
    """A state with a random head: one that is almost zero leaves every other parameter with hardly a gradient."""
    state = init_state(init_params(MODEL, RECIPE.seed, IMAGE_SHAPE, 2), OPTIMIZER)
    kernel = state.params["head"]["kernel"]
    head = {**state.params["head"], "kernel": 0.1 * jax.random.normal(jax.random.key(1), kernel.shape)}
    return jax.device_get(TrainState(state.step + START, {**state.params, "head": head}, state.opt_state))


# ---- Starting processes ----------------------------------------------------------------------------------------------


def free_port():
    """A port of the range that JAX takes under SLURM, above the one that systems give away by themselves."""
    for port in np.random.default_rng().integers(61440, 65536, 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", int(port)))
            return int(port)
    raise RuntimeError("no free port")


def with_flags(port, index):
    """The flags and the environment of process `index` of two."""
    return [f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2", f"--process_id={index}"], {}


def with_slurm(port, index):
    """The same, as a SLURM cluster of one node would have it."""
    return ["--distributed"], {
        "SLURM_JOB_ID": str(port - 61440),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
    }


@contextlib.contextmanager
def two_processes(command, *, joined=with_flags, devices=1, second=()):
    """Starts `command` in two processes with so many devices each; kills those that are left in the end."""
    port, started = free_port(), []
    try:
        for index in range(2):
            flags, variables = joined(port, index)
            environment = environment_with_devices(devices) | variables
            started.append(
                subprocess.Popen(
                    [sys.executable, *command, *flags, *(second if index else ())],
                    cwd=REPOSITORY,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def training(workdir):
    settings = [f"--config.{key}={value}" for key, value in {**SETTINGS, "num_train_steps": END}.items()]
    return ["-m", "air_jax.main", "--config=configs/mnist_unet.py", f"--workdir={workdir}", *settings]


def outputs(started):
    """Exit status, standard output and standard error of each process, once it has ended."""
    texts = [process.communicate(timeout=TIMEOUT) for process in started]
    return [(process.returncode, *text) for process, text in zip(started, texts, strict=True)]


# ---- Training together -----------------------------------------------------------------------------------------------


def restored(workdir, step):
    state, folder = initial_state(), workdir / "checkpoints" / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        params, opt_state = (
            checkpointer.restore(folder / name, getattr(state, name)) for name in ("params", "opt_state")
        )
    return TrainState(step, params, opt_state)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes of two devices each leave and print, who go on from a checkpoint of the initial state."""
    workdir, state = tmp_path_factory.mktemp("runs") / "together", initial_state()
    workdir.mkdir()
    write(SavedConfig(complete(small_config(END)), IMAGE_SHAPE), workdir)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(START, state.params, state.opt_state, {"dice": 0.0})
    with two_processes(training(workdir), devices=2) as started:
        return workdir, outputs(started)


@pytest.fixture(scope="module")
def alone():
    """The states of one process with one device, by step."""
    states = {}
    steps = make_train_steps(
        MODEL,
        OPTIMIZER,
        partial(pair_loss, objective=RECIPE.objective, terms=RECIPE.terms),
        seed=RECIPE.seed,
        batch_size=RECIPE.steps.batch_size,
        num_devices=1,
        axis_name=parallel.AXIS_NAME,
    )
    devices = jax.local_devices()[:1]
    run = parallel.data_parallel(steps, devices)
    images = load_dataset(**RECIPE.dataset).train
    state, images = parallel.replicate((initial_state(), images), devices)
    for step in range(START + 1, END + 2):
        state, _ = run(state, images, 1)
        states[step] = jax.device_get(state)
    return states


def displacements(state):
    test = load_dataset(**RECIPE.dataset).test.images[:16] / np.float32(255)
    return np.asarray(MODEL.apply({"params": state.params}, test[:8], test[8:])[0])


@pytest.mark.slow
@needs_gloo
def test_every_process_ends_well_and_the_first_one_alone_tells_of_it(together):
    _, ((first_status, first, first_errors), (second_status, second, second_errors)) = together
    assert (first_status, second_status) == (0, 0), first_errors + second_errors
    assert f"resuming from step {START}" in first
    assert "validation: Dice" in first
    assert "step" not in second
    assert "data" not in second


@pytest.mark.slow
@needs_gloo
def test_gradients_of_one_step_agree_with_one_process(together, alone):
    # Adam's first moment after its first step is 0.1 times the gradient.
    ours, theirs = (
        optax.tree.get(state.opt_state, "mu") for state in (restored(together[0], START + 1), alone[START + 1])
    )
    assert np.abs(theirs["Conv_0"]["kernel"]).max() > 1e-5
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(10 * a, 10 * b, atol=1e-5)


@pytest.mark.slow
@needs_gloo
def test_displacements_after_ten_steps_agree_with_one_process(together, alone):
    ours, theirs = displacements(restored(together[0], END)), displacements(alone[END])
    assert np.abs(theirs - displacements(initial_state())).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
@needs_gloo
def test_everything_is_written_once(together):
    workdir, _ = together
    names = {path.name for path in workdir.iterdir()}
    assert names == {"checkpoints", "config.json", "metrics.jsonl", "eval.json", "figures", "report.html"}
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(START + 1, END + 1))
    assert [line["step"] for line in lines if "validation_dice" in line] == [START + 1, END]
    folders = list((workdir / "checkpoints").iterdir())
    assert {folder.name for folder in folders} == {str(START + 1), str(END)}
    assert all((folder / "commit_success.txt").exists() for folder in folders)
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or "partial" in path.name]


@needs_gloo
@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_go_on_in_one_program_that_xla_partitions(together, alone, tmp_path):
    shutil.copytree(together[0], tmp_path / "copy")
    settings = ["--config.sharded_jit=True", f"--config.num_train_steps={END + 1}"]
    with two_processes([*training(tmp_path / "copy"), *settings], devices=2) as started:
        (status, printed, errors), (second_status, _, second_errors) = outputs(started)
    assert (status, second_status) == (0, 0), errors + second_errors
    assert f"resuming from step {END} of {END + 1}" in printed
    state = restored(tmp_path / "copy", END + 1)
    np.testing.assert_allclose(displacements(state), displacements(alone[END + 1]), atol=1e-5)


@pytest.mark.slow
@needs_gloo
def test_one_process_with_other_devices_goes_on(together, alone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_module, "evaluate", lambda *_, **__: {})
    monkeypatch.setattr(train_module, "all_devices", lambda: jax.local_devices()[:2])
    shutil.copytree(together[0], tmp_path / "copy")
    train_module.train(small_config(END + 1), tmp_path / "copy")
    assert f"resuming from step {END} of {END + 1}" in capsys.readouterr().out
    state = restored(tmp_path / "copy", END + 1)
    np.testing.assert_allclose(displacements(state), displacements(alone[END + 1]), atol=1e-5)


# ---- Failures --------------------------------------------------------------------------------------------------------

# Process 1 fails, as the word after its flags says, while process 0 waits for it in a collective.
FAILING = """
import os, sys, signal
import numpy as np
from air_jax.runtime import processes
address, number, index = (flag.split("=")[1] for flag in sys.argv[1:4])
with processes.joined(address, int(number), int(index), detect=False):
    processes.from_first_process(lambda: np.float32(1), like=np.float32(0))
    if "killed" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    if "raising" in sys.argv:
        raise ValueError("a defect")
    processes.from_first_process(lambda: np.float32(1), like=np.float32(0))
"""


@pytest.mark.slow
@needs_gloo
@pytest.mark.parametrize("how", ["killed", "raising"])
def test_a_process_that_fails_ends_the_other(how):
    with two_processes(["-c", FAILING], second=[how]) as started:
        start = time.monotonic()
        (first, _, said), (second, _, errors) = outputs(started)
        assert first == 1
        assert len(said.splitlines()) == 1
        assert said.startswith("air_jax: another process of this run has ended (")
        assert second == (-signal.SIGKILL if how == "killed" else 1)
        assert ("ValueError: a defect" in errors) == (how == "raising")
        # JAX alone would notice after the 100 seconds in which it misses heartbeats.
        assert time.monotonic() - start < 80


@pytest.mark.slow
@needs_gloo
def test_processes_with_different_configs_stop_with_one_line_each(tmp_path):
    with two_processes(training(tmp_path / "run"), joined=with_slurm, second=["--config.seed=1"]) as started:
        for status, _, errors in outputs(started):
            assert status == 2
            assert errors.strip().endswith(
                "config of process 1 is not that of process 0; start all with the same command"
            )
            assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("address", "count", "index", "detect", "message"),
    [
        ("localhost:1234", None, None, False, "also need --num_processes and --process_id"),
        (None, None, 0, False, "also need --coordinator_address and --num_processes"),
        ("localhost:1234", 2, 2, False, "--process_id=2: must lie between 0 and 1"),
        ("localhost:1234", 2, -1, False, "--process_id=-1: must lie between 0 and 1"),
        ("localhost:1234", 0, 0, False, "--num_processes=0: must be positive"),
        ("localhost", 2, 0, False, "--coordinator_address=localhost: must be HOST:PORT"),
        ("localhost:http", 2, 0, False, "must be HOST:PORT"),
        (None, 2, None, True, "--distributed asks the cluster; leave it out, or leave out --num_processes"),
        (None, None, None, True, "is this a cluster that JAX knows"),
    ],
)
def test_mistakes(monkeypatch, address, count, index, detect, message):
    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=message) as error, processes.joined(address, count, index, detect=detect):
        pass
    assert "\n" not in str(error.value)


def test_without_flags_there_is_one_process(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", pytest.fail)
    with processes.joined(None, None, None, detect=False):
        assert processes.is_first_process()
