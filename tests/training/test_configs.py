"""Every shipped config: short, valid, has a train step, trains, and loads."""

import ast
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY

import air_jax
from air_jax import io
from air_jax.errors import UserError
from air_jax.runtime.parallel import AXIS_NAME
from air_jax.training import run
from air_jax.training.recipe import training_recipe
from air_jax.training.steps import init_params
from air_jax.workdir.config import SavedConfig, check_same_run, complete
from air_jax.workdir.recipe import inference_recipe

NAMES = sorted(path.stem for path in (REPOSITORY / "configs").glob("*.py") if path.stem != "__init__")
LEVELS = {"num_steps": (1,), "downsampling": (2,)}
PATCHES = {**LEVELS, "stride": (4,), "patch_size": (4,), "spacing": (4,), "width": 8, "num_heads": 2}
MATCHING = {**LEVELS, "stride": (4,), "patch_size": (4,), "radius": (1,), "width": 8, "num_heads": 2}
SCORED = ("mnist", "mnist_best", "cardiac_labels", "hippocampus_labels")  # one a kind of model
REFINED = ("mnist",)  # the others refine by the same code
SMALL = {
    "air": {"width": 8, "feed_forward": 8},
    "pyramid_air": PATCHES,
    "matching_air": MATCHING,
    "matching_unet": {"features": (4, 4), "num_steps": (1, 1), "radius": (1, 1), "width": (4, 4)},
    "gated_demons": PATCHES,
    "unrolled_demons": LEVELS,
    "unet": {"encoder": (4, 4), "decoder": (4, 4), "final": (4,)},
    "dlir": {"width": 4},
    "segmenter": {"features": (4, 4)},
}


def config_of(name):
    return importlib.import_module(f"configs.{name}").get_config()


def shrunk(config, stack):
    """The config with a small model, two steps and a stack of small images."""
    with config.ignore_type(), config.unlocked():
        config.dataset.update({"name": str(stack), "num_validation": 2, "pairs": "all", "train_fraction": 0.6})
        config.dataset.normalization = "range"
        config.update({"warmup_steps": 0, "batch_size": 4, "log_every": 2, "eval_every": 2})
        config.num_train_steps = min(config.num_train_steps, 2)
        config.eval.update({"num_pairs": 4, "batch_size": 4})
        config.model.update(SMALL[config.model.name])
        if config.model.name == "segmenter":
            config.model.num_classes = 3
    return config


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Twelve images of a square in a disc, with their segmentations."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :18]
    centres = rng.uniform(6, 9, (12, 2))
    distance = np.stack([np.maximum(abs(rows - y), abs(columns - x)) for y, x in centres])
    segmentations = (distance < 6).astype(np.uint8) + (distance < 3)
    images = (90 * segmentations + rng.integers(0, 40, segmentations.shape)).astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "stack.npz"
    io.write_stack(path, images, label=segmentations)
    return path


@pytest.fixture(scope="module")
def segmenter(stack, tmp_path_factory):
    """The workdir of a segmenter's run."""
    workdir = tmp_path_factory.mktemp("runs") / "segmenter"
    run.train(shrunk(config_of("hippocampus_segmenter"), stack), workdir)
    return workdir


@pytest.fixture(scope="module")
def untrained_segmenter(stack):
    """What a registration reads of a segmenter's run."""
    config = complete(shrunk(config_of("hippocampus_segmenter"), stack))
    model = inference_recipe(SavedConfig(config, (16, 18, 1))).model
    return {"model": config.model.to_dict(), "normalization": "range"}, init_params(model, 0, (16, 18, 1), 1)


def test_all_configs_are_found():
    assert {"digits", "mnist", "mnist_best", "mnist_unet", "mnist_dlir", "volumes"} <= set(NAMES)
    assert {f"{name}{kind}" for name in ("cardiac", "hippocampus", "brains") for kind in ("", "_labels")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_states_at_most_25_differences(name):
    tree = ast.parse((REPOSITORY / "configs" / f"{name}.py").read_text())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    assert len(function.body) <= 27  # with the call of default_config and the return
    assert not any(isinstance(node, ast.Import) for node in tree.body), "a config imports nothing but the defaults"


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_valid_as_it_stands(name):
    config = config_of(name)
    if not config.dataset.name:
        with pytest.raises(UserError, match=r"dataset\.name='': give the path of your images"):
            training_recipe(complete(config))
        config.dataset.name = "stack.npz"
    config = complete(config)
    training_recipe(config)
    inference_recipe(SavedConfig(config, (28, 28, 1)))


class TracedError(Exception):
    """Ends a run whose steps were traced."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_config_has_a_train_step(name, stack, untrained_segmenter, tmp_path, monkeypatch):
    """Traced, not compiled: shapes of data, model, loss, derivative and optimizer fit each other."""

    def traced(train_steps, images, devices, **_):
        images = jax.tree.map(jnp.asarray, images)

        def steps(state, num_steps):
            each = jnp.arange(len(devices))
            step = jax.vmap(lambda device: train_steps(state, images, device, num_steps), axis_name=AXIS_NAME)
            after, metrics = jax.eval_shape(step, each)
            assert [x.shape[1:] for x in jax.tree.leaves(after)] == [x.shape for x in jax.tree.leaves(state)]
            assert {"loss", "grad_norm"} <= set(metrics)
            assert {each.shape for each in jax.tree.leaves(metrics)} == {(len(devices), num_steps)}
            raise TracedError

        return steps

    def shapes_of(model, seed, image_shape, num_images):
        images = [jnp.zeros((1, *image_shape))] * num_images
        params = jax.eval_shape(model.init, jax.random.key(seed), *images).get("params", {})
        return jax.tree.map(lambda each: np.zeros(each.shape, each.dtype), params)

    monkeypatch.setattr(run, "init_params", shapes_of)  # drawing them compiles for seconds
    monkeypatch.setattr(run.feed, "resident", traced)
    config = shrunk(config_of(name), stack)
    if "segmenter" in config.model and name.endswith("_labels"):
        config.model.segmenter = "a_run"
        monkeypatch.setattr(run, "read_segmenter", lambda _: untrained_segmenter)
    config.num_train_steps = 2
    with pytest.raises(TracedError):
        run.train(config, tmp_path / name)
    check_same_run(complete(config), tmp_path / name)  # the config that was written is the config that was given


@pytest.mark.slow
@pytest.mark.thorough  # test_train.py compiles, trains and loads a run in every suite
@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("_segmenter")])
def test_every_registration_config_trains_and_loads(name, stack, segmenter, tmp_path, monkeypatch):
    config = shrunk(config_of(name), stack)
    config.refine.num_steps = 3 * (name in REFINED)
    if "segmenter" in config.model and name.endswith("_labels"):
        config.model.segmenter = str(segmenter)
    if name not in SCORED:  # scores and figures are those of another config's model
        monkeypatch.setattr(run, "evaluate", lambda *_, **__: {})
    report = run.train(config, tmp_path / name)
    registration = air_jax.load(tmp_path / name)
    assert registration.step == config.num_train_steps
    if name in SCORED:
        assert ("refined" in report["random_pairs"]) == (config.refine.num_steps > 0)
        image = np.zeros((16, 18), np.float32)
        image[5:11, 5:14] = 1
        assert registration.register(image, np.roll(image, 1, axis=0)).displacement.shape == (16, 18, 2)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_segmenter")])
def test_every_segmenter_config_trains(name, stack, tmp_path):
    report = run.train(shrunk(config_of(name), stack), tmp_path / name)
    assert set(report["random_pairs"]["after"]) == {"dice", "dice_1", "dice_2"}
    assert {path.name for path in (tmp_path / name / "figures").iterdir()} == {"curves.png", "segmentation.png"}
    with pytest.raises(UserError, match="is a segmenter's run"):
        air_jax.load(tmp_path / name)
