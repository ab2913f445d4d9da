"""The same global batch on 1, 2, 4 and 8 devices: the same training."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import REPOSITORY

from air_jax import AiR
from air_jax.data import Images
from air_jax.losses import make_objective
from air_jax.runtime import parallel
from air_jax.runtime.parallel import AXIS_NAME, data_parallel, replicate
from air_jax.training.steps import init_state, make_train_steps

IMAGE_SHAPE = (14, 14, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, *IMAGE_SHAPE), dtype=np.uint8)
MODEL = AiR()


def with_random_head(state):
    """The head starts at zero, which leaves every other parameter without a gradient in the first step."""
    kernel = state.params["head"]["kernel"]
    head = {**state.params["head"], "kernel": jax.random.normal(jax.random.key(1), kernel.shape)}
    return state.replace(params={**state.params, "head": head})


def training(num_devices, optimizer):
    """The first devices, and the function that trains on them."""
    devices = jax.local_devices()[:num_devices]
    steps = make_train_steps(
        MODEL,
        optimizer,
        make_objective("mse", diffusion=0.01),
        seed=5,
        batch_size=8,
        num_devices=num_devices,
        axis_name=AXIS_NAME,
    )
    return devices, data_parallel(steps, devices)


def run(num_devices, num_steps, optimizer, initial):
    devices, run_steps = training(num_devices, optimizer)
    state, images = replicate((initial, Images(IMAGES)), devices)
    return jax.device_get(run_steps(state, images, num_steps))


@functools.cache
def one_step(num_devices):
    """The state before a step of gradient descent of rate 1, whose update is the gradient, and what the step gives."""
    optimizer = optax.sgd(1.0)
    initial = jax.device_get(with_random_head(init_state(MODEL, optimizer, 5, IMAGE_SHAPE)))
    return initial, *run(num_devices, 1, optimizer, initial)


@functools.cache
def displacements_after_ten_steps(num_devices):
    optimizer = optax.adam(1e-3)
    fixed, moving = IMAGES[:2, None] / np.float32(255)
    state, _ = run(num_devices, 10, optimizer, jax.device_get(init_state(MODEL, optimizer, 5, IMAGE_SHAPE)))
    return np.asarray(MODEL.apply({"params": state.params}, fixed, moving)[0])


def test_there_are_several_devices():
    assert len(jax.local_devices()) == 4


def assert_gradients_of_one_step_agree(num_devices):
    initial, one, one_metrics = one_step(1)
    _, many, many_metrics = one_step(num_devices)
    gradients = jax.tree.map(lambda a, b: a - b, initial.params, one.params)
    assert np.abs(gradients["patch_embedding"]["kernel"]).max() > 1e-3
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name, value in one_metrics.items():
        np.testing.assert_allclose(value, many_metrics[name], rtol=1e-5)


def assert_displacements_after_ten_steps_agree(num_devices):
    # Parameters whose true gradient is zero (key biases) may differ: Adam amplifies their rounding noise.
    one, many = displacements_after_ten_steps(1), displacements_after_ten_steps(num_devices)
    assert np.abs(one).max() > 1e-3  # the first parameters displace nothing
    np.testing.assert_allclose(one, many, atol=1e-5)


@pytest.mark.parametrize("num_devices", [2, 4])
def test_gradients_of_one_step_agree(num_devices):
    assert_gradients_of_one_step_agree(num_devices)


@pytest.mark.parametrize("num_devices", [2, 4])
def test_displacements_after_ten_steps_agree(num_devices):
    assert_displacements_after_ten_steps_agree(num_devices)


def test_eight_devices_agree():
    """In a process of its own: more virtual devices than cores make every other test slower."""
    program = (
        "import test_parallel as t, jax; assert len(jax.local_devices()) == 8;"
        "t.assert_gradients_of_one_step_agree(8); t.assert_displacements_after_ten_steps_agree(8)"
    )
    folder = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY / "tests"), str(REPOSITORY)]),
    }
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_batch_is_a_function_of_seed_and_step():
    """Two dispatches of three steps are six steps."""
    optimizer = optax.adam(1e-3)
    devices, run_steps = training(2, optimizer)
    images = replicate(Images(IMAGES), devices)
    initial = jax.device_get(init_state(MODEL, optimizer, 5, IMAGE_SHAPE))
    state = replicate(initial, devices)
    losses = []
    for _ in range(2):
        state, metrics = run_steps(state, images, 3)
        losses.append(np.asarray(metrics["loss"]))
    again, metrics = run_steps(replicate(initial, devices), images, 6)
    assert int(again.step) == int(state.step) == 6
    np.testing.assert_allclose(np.concatenate(losses), metrics["loss"], rtol=1e-5)
    assert len(np.unique(metrics["loss"])) == 6


def test_no_host_traffic_during_training():
    optimizer = optax.adam(1e-3)
    devices, run_steps = training(2, optimizer)
    state, images = replicate((init_state(MODEL, optimizer, 0, IMAGE_SHAPE), Images(IMAGES)), devices)
    state, _ = jax.block_until_ready(run_steps(state, images, 3))  # compiles, which may transfer constants
    with jax.transfer_guard("disallow"):
        before = state
        state, _ = run_steps(state, images, 3)
    jax.block_until_ready(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "the state was not donated"
    assert not images.images.is_deleted()


def test_replicated_arrays_stand_on_every_device():
    devices = jax.local_devices()[:3]
    array = replicate(jnp.arange(4), devices)
    assert array.sharding.device_set == set(devices)
    assert array.sharding.is_fully_replicated


def test_gradients_and_metrics_cross_in_one_all_reduce():
    """Each all-reduce has to bring all devices together, which costs more than a small step's arithmetic."""
    optimizer = optax.adam(1e-3)
    state = init_state(MODEL, optimizer, 5, IMAGE_SHAPE)
    devices = jax.local_devices()[:2]
    steps = make_train_steps(
        MODEL, optimizer, make_objective("mse"), seed=5, batch_size=8, num_devices=2, axis_name=AXIS_NAME
    )
    mapped = jax.pmap(
        steps, AXIS_NAME, in_axes=(None, None, 0), static_broadcasted_argnums=3, out_axes=None, devices=devices
    )
    assert mapped.lower(state, Images(IMAGES), np.arange(2), 3).as_text().count("all_reduce") == 1


CORES = """
import os, jax
from air_jax.runtime.parallel import use_cores
os.sched_getaffinity = lambda _: range({cores})
use_cores({batch_size})
print(jax.device_count())
"""


@pytest.mark.parametrize(
    ("cores", "batch_size", "environment", "expected"),
    [
        (4, 128, {}, 4),
        (3, 32, {}, 2),  # what divides the batch
        (4, 16, {}, 2),  # 8 pairs a core at the least
        (4, 1, {}, 1),
        (4, 128, {"JAX_NUM_CPU_DEVICES": "3"}, 3),
        (4, 128, {"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
    ],
)
def test_each_core_is_a_device_unless_the_user_says_otherwise(cores, batch_size, environment, expected):
    kept = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    code = CORES.format(cores=cores, batch_size=batch_size)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=kept | environment,
        text=True,
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) == expected


@pytest.mark.parametrize(("text", "expected"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_a_containers_quota_counts(text, expected, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setattr(parallel, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert parallel.num_cores() == expected
