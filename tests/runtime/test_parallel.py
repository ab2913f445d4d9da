"""Training does not depend on the number of devices: 1, 2, 4 and 8."""

import functools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import FASTEST_UNET, REPOSITORY, environment_with_devices
from jax.sharding import NamedSharding, PartitionSpec

from air_jax.data import Images
from air_jax.losses import make_objective
from air_jax.models import UNet
from air_jax.runtime import parallel
from air_jax.runtime.parallel import AXIS_NAME, data_parallel, mesh_of, replicate, sharded_data_parallel
from air_jax.training.pair_loss import TrainingTerms, pair_loss
from air_jax.training.steps import init_params, init_state, make_train_steps

IMAGE_SHAPE = (14, 14, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, *IMAGE_SHAPE), dtype=np.uint8)
MODEL = UNet(**FASTEST_UNET)
ADAM, DESCENT = optax.adam(1e-3), optax.sgd(1.0)


def with_random_head(state):
    """Replaces the head, which is almost zero: every other parameter has hardly a gradient in the first step."""
    kernel = state.params["head"]["kernel"]
    head = {**state.params["head"], "kernel": jax.random.normal(jax.random.key(1), kernel.shape)}
    return state.replace(params={**state.params, "head": head})


@functools.cache
def training(num_devices, optimizer):
    """Returns the first devices, and the function that trains on them."""
    devices = jax.local_devices()[:num_devices]
    return devices, data_parallel(train_steps_of(num_devices, optimizer), devices)


def train_steps_of(num_devices, optimizer):
    loss = partial(pair_loss, objective=make_objective("mse", diffusion=0.01), terms=TrainingTerms())
    shared = {"seed": 5, "batch_size": 8, "axis_name": AXIS_NAME}
    return make_train_steps(MODEL, optimizer, loss, num_devices=num_devices, **shared)


def initial_state(optimizer):
    return jax.device_get(init_state(init_params(MODEL, 5, IMAGE_SHAPE, 2), optimizer))


def run(num_devices, num_steps, optimizer, initial):
    devices, run_steps = training(num_devices, optimizer)
    state, images = replicate((initial, Images(IMAGES)), devices)
    return jax.device_get(run_steps(state, images, num_steps))


@functools.cache
def one_step(num_devices):
    """Returns the state before and after a step of gradient descent of rate 1, and its metrics."""
    initial = jax.device_get(with_random_head(initial_state(DESCENT)))
    return initial, *run(num_devices, 1, DESCENT, initial)


@functools.cache
def displacements_after_ten_steps(num_devices):
    fixed, moving = IMAGES[:2, None] / np.float32(255)
    state, _ = run(num_devices, 10, ADAM, initial_state(ADAM))
    return np.asarray(MODEL.apply({"params": state.params}, fixed, moving)[0])


def test_there_are_several_devices():
    assert len(jax.local_devices()) == 4


def assert_one_step_agrees(params, metrics):
    initial, one, one_metrics = one_step(1)
    gradients = jax.tree.map(lambda a, b: a - b, initial.params, one.params)
    assert np.abs(gradients["Conv_0"]["kernel"]).max() > 1e-3
    for a, b in zip(jax.tree.leaves(one.params), params, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name, value in one_metrics.items():
        np.testing.assert_allclose(value, metrics[name], rtol=1e-5)


def assert_ten_steps_agree(displacements):
    # Parameters whose true gradient is zero (key biases) may differ: Adam amplifies their rounding noise.
    one = displacements_after_ten_steps(1)
    assert np.abs(one).max() > 1e-3  # the first parameters displace nothing
    np.testing.assert_allclose(one, displacements, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [2, 4])
def test_gradients_of_one_step_agree(num_devices):
    _, many, metrics = one_step(num_devices)
    assert_one_step_agrees(jax.tree.leaves(many.params), metrics)


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [2, 4])
def test_displacements_after_ten_steps_agree(num_devices):
    assert_ten_steps_agree(displacements_after_ten_steps(num_devices))


def split_over(mesh, leaf):
    """The sharding of an array whose first axis that the devices divide is split among them."""
    divided = [size % mesh.size == 0 and size > 0 for size in leaf.shape]
    spec = [None] * divided.index(True) + [AXIS_NAME] if any(divided) else []
    return NamedSharding(mesh, PartitionSpec(*spec))


@pytest.mark.slow
@pytest.mark.parametrize("parameters", ["replicated", "split"])
def test_one_program_that_xla_partitions_agrees(parameters):
    """Also with parameters of which each device holds a part, as in FSDP."""
    mesh, initial = mesh_of(jax.local_devices()), one_step(1)[0]
    sharding = jax.tree.map(partial(split_over, mesh), initial) if parameters == "split" else None
    take_steps = sharded_data_parallel(train_steps_of(4, DESCENT), mesh, state_sharding=sharding)
    state = replicate(initial, jax.local_devices()) if sharding is None else jax.device_put(initial, sharding)
    state, metrics = take_steps(state, replicate(Images(IMAGES), jax.local_devices()), 1)
    kernel = state.params["Conv_0"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // (4 if parameters == "split" else 1)
    assert_one_step_agrees(jax.tree.leaves(state.params), metrics)


EIGHT_DEVICES = """
import sys, jax, numpy as np, test_parallel
from air_jax.runtime.parallel import use_cores
use_cores(128)  # keeps the number in XLA_FLAGS
assert len(jax.local_devices()) == 8
_, state, metrics = test_parallel.one_step(8)
metrics["displacements"] = test_parallel.displacements_after_ten_steps(8)
np.savez(sys.argv[1], *jax.tree.leaves(state.params), **metrics)
"""


@pytest.mark.slow
def test_eight_devices_agree(tmp_path):
    """In a process of its own: more virtual devices than cores make every other test slower."""
    folders = Path(__file__).resolve().parent, REPOSITORY / "tests", REPOSITORY
    environment = environment_with_devices(8) | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", EIGHT_DEVICES, str(tmp_path / "eight.npz")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "eight.npz") as found:
        assert_one_step_agrees([found[name] for name in found if name.startswith("arr_")], found)
        assert_ten_steps_agree(found["displacements"])


@pytest.mark.slow
def test_the_batch_is_a_function_of_seed_and_step():
    """Two dispatches of five steps equal one of ten."""
    devices, run_steps = training(2, ADAM)
    images = replicate(Images(IMAGES), devices)
    initial = initial_state(ADAM)
    state = replicate(initial, devices)
    losses = []
    for _ in range(2):
        state, metrics = run_steps(state, images, 5)
        losses.append(np.asarray(metrics["loss"]))
    again, metrics = run_steps(replicate(initial, devices), images, 10)
    assert int(again.step) == int(state.step) == 10
    np.testing.assert_allclose(np.concatenate(losses), metrics["loss"], rtol=1e-5)
    assert len(np.unique(metrics["loss"])) == 10


@pytest.mark.slow
def test_no_host_traffic_during_training():
    devices, run_steps = training(2, ADAM)
    state, images = replicate((initial_state(ADAM), Images(IMAGES)), devices)
    state, _ = jax.block_until_ready(run_steps(state, images, 5))  # compiles, which may transfer constants
    with jax.transfer_guard("disallow"):
        before = state
        state, _ = run_steps(state, images, 5)
    jax.block_until_ready(state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "the state was not donated"
    assert not images.images.is_deleted()


def test_replicated_arrays_are_on_every_device():
    devices = jax.local_devices()[:3]
    array = replicate(jnp.arange(4), devices)
    assert array.sharding.device_set == set(devices)
    assert array.sharding.is_fully_replicated


@pytest.mark.slow
def test_gradients_and_metrics_are_averaged_in_one_all_reduce():
    """Each all-reduce waits for all devices, which takes longer than the arithmetic of a small step."""
    state, devices = initial_state(ADAM), jax.local_devices()[:2]
    steps = train_steps_of(2, ADAM)
    mapped = jax.pmap(
        steps, AXIS_NAME, in_axes=(None, None, 0), static_broadcasted_argnums=3, out_axes=None, devices=devices
    )
    assert mapped.lower(state, Images(IMAGES), np.arange(2), 3).as_text().count("all_reduce") == 1


CORES = """
import os, jax
from air_jax.runtime.parallel import use_cores

def devices_asked_for(cores, batch_size):
    os.sched_getaffinity = lambda _: range(cores)
    use_cores(batch_size)
    return jax.config.jax_num_cpu_devices

assert devices_asked_for(4, 128) == 3, "JAX_NUM_CPU_DEVICES counts"
for cores, batch_size, expected in [
    (4, 128, 4),
    (4, 16, 2),  # 8 pairs a core at least
    (4, 1, 1),
    (3, 32, 2),  # a divisor of the batch
]:
    jax.config.update("jax_num_cpu_devices", -1)
    assert devices_asked_for(cores, batch_size) == expected, (cores, batch_size, expected)
assert jax.device_count() == 2
"""


@pytest.mark.slow
def test_each_core_is_a_device_unless_the_user_sets_another_number():
    kept = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", CORES],
        cwd=REPOSITORY,
        env=kept | {"JAX_NUM_CPU_DEVICES": "3"},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("text", "expected"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_the_quota_of_a_container_limits_the_cores(text, expected, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    monkeypatch.setattr(parallel, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert parallel.num_cores() == expected
