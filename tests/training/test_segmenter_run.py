"""A segmenter's run, and a registration that takes the segmenter into its own run."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

import air_jax
from air_jax import UserError, io
from air_jax.data import Images
from air_jax.data.pairs import gather, pairs_of_step, unit_pair
from air_jax.losses import segmentation_loss
from air_jax.models import Segmenter
from air_jax.runtime.parallel import AXIS_NAME, data_parallel, replicate
from air_jax.training import run
from air_jax.training.run import train
from air_jax.training.steps import init_params, init_state, make_train_steps
from air_jax.training.tasks import segmentation_task
from air_jax.workdir.checkpoint import restore_best_params
from air_jax.workdir.config import read, write
from air_jax.workdir.defaults import default_config

SHAPE = (12, 14)


def stack_arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, *SHAPE), dtype=np.uint8)
    return images, (images > 128).astype(np.uint8)


def config_of(model, stack, **options):
    config = default_config(model)
    config.dataset.update({"name": str(stack), "num_validation": 2, "train_fraction": 0.6})
    config.update({"num_train_steps": 4, "batch_size": 4, "log_every": 2, "eval_every": 2})
    config.eval.update({"num_pairs": 4, "batch_size": 4})
    config.model.update(options)
    return config


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "stack.npz"
    images, segmentations = stack_arrays()
    io.write_stack(path, images, label=segmentations)
    return path


@pytest.fixture(scope="module")
def segmenter(stack, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "segmenter"
    train(config_of("segmenter", stack, num_classes=2, features=(4, 4)), workdir)
    return workdir


def gated_config(stack, segmenter):
    small = {"stride": (4,), "patch_size": (4,), "spacing": (4,), "num_steps": (1,), "downsampling": (1,), "width": 8}
    config = config_of("gated_demons", stack, **small, segmenter=str(segmenter))
    config.learning_rate = 0.01
    return config


@pytest.mark.slow
def test_a_step_descends_on_the_segmentations_of_both_images():
    """One step of gradient descent of rate 1, beside the derivative of the loss as it is defined."""
    import optax

    images, segmentations = stack_arrays()
    model, optimizer = Segmenter(num_classes=2, features=(4, 4)), optax.sgd(1.0)
    task = segmentation_task(model, (1,))
    steps = make_train_steps(model, optimizer, task.loss, seed=0, batch_size=2, num_devices=1, axis_name=AXIS_NAME)
    devices = jax.local_devices()[:1]
    before = jax.device_get(init_params(model, 0, (*SHAPE, 1), 1))
    data = Images(images[..., None], segmentations=segmentations)
    state, data_there = replicate((init_state(before, optimizer), data), devices)
    state, metrics = jax.device_get(data_parallel(steps, devices)(state, data_there, 1))
    assert set(metrics) == {"loss", "segmentation", "grad_norm", "update_norm", "param_norm"}

    pair, _ = unit_pair(gather(data, *pairs_of_step(0, 0, len(data), 2)))

    @jax.jit
    def loss(params):
        both = (pair.fixed, pair.fixed_segmentation), (pair.moving, pair.moving_segmentation)
        return (
            sum(segmentation_loss(model.apply({"params": params}, image), known, (1,)).mean() for image, known in both)
            / 2
        )

    np.testing.assert_allclose(metrics["loss"][0], loss(before), rtol=1e-5)
    taken = jax.tree.map(np.subtract, before, state.params)
    for name, tree in (("grad_norm", taken), ("update_norm", taken), ("param_norm", state.params)):
        norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))
        np.testing.assert_allclose(metrics[name][0], norm, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), taken, jax.grad(loss)(before))


@pytest.mark.slow
def test_a_registration_takes_the_segmenter_into_its_own_run(stack, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {})
    shutil.copytree(segmenter, tmp_path / "segmenter")
    train(gated_config(stack, tmp_path / "segmenter"), tmp_path / "run")
    shutil.rmtree(tmp_path / "segmenter")
    registration = air_jax.load(tmp_path / "run")
    assert registration.model.segmenter == Segmenter(num_classes=2, features=(4, 4), dtype=np.float32)
    _, trained = restore_best_params(segmenter / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(registration.params["segmenter"]), trained)
    image = np.random.default_rng(0).random((1, *SHAPE, 1), np.float32)
    alone = jax.nn.softmax(Segmenter(num_classes=2, features=(4, 4)).apply({"params": trained}, image))
    np.testing.assert_allclose(registration.model.segment(registration.params, image), alone, atol=1e-6)


@pytest.mark.slow
def test_a_registration_goes_on_without_the_segmenters_run(stack, segmenter, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {})
    shutil.copytree(segmenter, tmp_path / "segmenter")
    config = gated_config(stack, tmp_path / "segmenter")
    train(config, tmp_path / "run")
    _, uninterrupted = restore_best_params(tmp_path / "run" / "checkpoints")
    shutil.rmtree(tmp_path / "segmenter")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    train(config, tmp_path / "run")
    assert "resuming from step 2" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, restore_best_params(tmp_path / "run" / "checkpoints")[1], uninterrupted)


@pytest.mark.slow
def test_a_registration_without_parameters_of_its_own_is_scored_and_loads(stack, segmenter, tmp_path):
    config = config_of("unrolled_demons", stack, num_steps=(1,), downsampling=(1,), segmenter=str(segmenter))
    config.num_train_steps = 0
    report = train(config, tmp_path / "run")
    assert report["checkpoint_step"] == 0
    assert set(air_jax.load(tmp_path / "run").params) == {"segmenter"}
    config = config_of("unrolled_demons", stack, num_steps=(1,), downsampling=(1,))
    config.num_train_steps = 0
    train(config, tmp_path / "none")
    assert air_jax.load(tmp_path / "none").params == {}


@pytest.mark.slow
def test_mistakes_with_segmenters_are_told_in_one_line(stack, segmenter, tmp_path):
    with pytest.raises(UserError, match=r"not found; is .* the workdir of a run"):
        train(gated_config(stack, tmp_path / "nowhere"), tmp_path / "run")
    config = gated_config(stack, segmenter)
    config.dataset.normalization = "percentile"
    with pytest.raises(UserError, match=r"dataset\.normalization='percentile': the segmenter was trained with 'range'"):
        train(config, tmp_path / "run")
    saved = read(segmenter)
    config = saved.config.unlock()
    config.model = config_of("unrolled_demons", stack).model
    (tmp_path / "demons").mkdir()
    write(dataclasses.replace(saved, config=config.lock()), tmp_path / "demons")
    with pytest.raises(UserError, match=r"is the run of the model 'unrolled_demons'; give .* a segmenter's run"):
        train(gated_config(stack, tmp_path / "demons"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_segmenter_is_not_loaded_as_a_registration(segmenter):
    with pytest.raises(UserError, match="is a segmenter's run"):
        air_jax.load(segmenter)
