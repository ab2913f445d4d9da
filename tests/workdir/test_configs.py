"""Every config that is shipped builds, trains a step, and comes back from its workdir."""

import importlib

import jax
import numpy as np
import optax
import pytest
from helpers import REPOSITORY

import air_jax
from air_jax.errors import UserError
from air_jax.training.optimizer import SCHEDULES, make_optimizer
from air_jax.training.run import train
from air_jax.workdir import config as configs

NAMES = sorted(path.stem for path in (REPOSITORY / "configs").glob("*.py") if path.stem != "__init__")


def shrunk(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.dataset.name, config.dataset.num_validation = "digits", 200
    config.warmup_steps = 0
    config.num_train_steps, config.batch_size, config.log_every, config.eval_every = 2, 4, 2, 2
    config.eval.num_pairs = config.eval.batch_size = 4
    config.dataset.pairs, config.refine.num_steps = "all", 0
    if config.model.name == "pyramid_air":
        one_level = {"stride": (4,), "patch_size": (12,), "spacing": (2,), "num_steps": (2,)}
        config.model.update({**one_level, "width": 16, "feed_forward": 32})
        config.model.downsampling = (2,)
    if name == "mnist_unet":
        config.model.update({"encoder": (4, 4), "decoder": (4, 4), "final": (4,)})
    return config


def test_all_configs_are_seen():
    of_mnist = {"digits", "mnist", "mnist_best", "mnist_unet", "mnist_dlir"}
    assert of_mnist | {"volumes", "cardiac", "hippocampus", "brains"} <= set(NAMES)


# Those that differ from volumes.py in numbers alone.
REAL_SETS = ("brains", "brains_labels", "cardiac", "cardiac_labels", "hippocampus", "hippocampus_labels")


@pytest.mark.parametrize("name", REAL_SETS)
def test_configs_of_real_sets_are_those_of_volumes(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    with pytest.raises(UserError, match=r"dataset\.name='': give the path of your images"):
        configs.check(config)
    config.dataset.name = "stack.npz"
    configs.check(config)
    assert configs.build_model(config).relative_radius == 4


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("digits", "mnist", *REAL_SETS)])
def test_every_config_trains_and_loads(name, tmp_path):
    """But for digits and mnist, which the other tests train."""
    config = shrunk(name)
    report = train(config, tmp_path / name)
    assert report["checkpoint_step"] == 2
    registration = air_jax.load(tmp_path / name)
    assert registration.model == configs.build_model(config)
    image = np.zeros((28, 28), np.float32)
    image[10:18, 8:20] = 1
    assert registration.register(image, np.roll(image, 2, axis=0)).displacement.shape == (28, 28, 2)
    # The same command goes on with the run, so the config that was written is the config that was given.
    train(config, tmp_path / name)


def test_a_schedule_that_depends_on_the_number_of_steps_is_not_prolonged(tmp_path):
    for schedule in SCHEDULES:
        config = shrunk("mnist_best")
        config.schedule = schedule
        configs.write(config, (28, 28, 1), tmp_path)
        config.num_train_steps = 4
        if schedule == "constant":
            configs.check_same_run(config, tmp_path)
        else:
            with pytest.raises(UserError, match="num_train_steps"):
                configs.check_same_run(config, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.stride", (4, 4), "must have a number for each of model.stride"),
        ("model.patch_size", (12, 8, 12), "must be odd multiples of model.stride"),
        ("model.spacing", (3, 2, 1), "must be divisors of model.stride"),
        ("model.num_steps", (2, 0, 2), "must be positive"),
        ("model.width", 97, r"must be a multiple of model.num_heads \(4\)"),
        ("model.edges", True, "forces of edges need model.forces"),
        ("schedule", "linear", "must be one of constant, cosine"),
        ("warmup_steps", -1, "must not be negative"),
        ("warmup_steps", 32_000, "must be less than num_train_steps"),
        ("num_segmenter_steps", 2, r"must be 0 where the model has no segmenter \(model.num_classes\)"),
        ("model.reach", (2.5, -1.0), "must not be negative"),
        ("model.reach", (), "must be two numbers"),
        ("model.volume_preservation", 0.5, "needs model.forces"),
        ("model.volume_preservation", 2.0, "must be less than 2"),
        ("augmentation.elastic", -1.0, "must not be negative"),
        ("augmentation.elastic", 5.0, "must be a quarter of augmentation.elastic_spacing at most"),
        ("augmentation.elastic_spacing", 0, "must be positive"),
        ("clip_norm", -1.0, "must not be negative"),
        ("deformation.amplitude", -1.0, "must not be negative"),
        ("loss.folding", -1.0, "must not be negative"),
        ("dataset.normalization", "minmax", "must be one of range, percentile, foreground, ct"),
    ],
)
def test_mistakes_in_the_best_config_are_told_in_one_line(key, value, message):
    config = importlib.import_module("configs.mnist_best").get_config()
    with config.unlocked():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as error:
        configs.check(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("count", "warmup_steps", "message"),
    [
        (2_000, 20, r"num_segmenter_steps=2000: must be less than num_train_steps \(2000\), or -1 for all"),
        (-2, 20, "num_segmenter_steps=-2: must be less than"),
        (150, 20, "num_segmenter_steps=150: must be a multiple of log_every"),
        (1_900, 100, r"warmup_steps=100: must be less than num_segmenter_steps and the steps after them \(100\)"),
        (-1, 2_000, r"warmup_steps=2000: must be less than num_train_steps \(2000\)"),
        (-1, 100, None),
        (1_900, 99, None),
    ],
)
def test_shares_of_the_segmenter(count, warmup_steps, message):
    config = importlib.import_module("configs.cardiac_labels").get_config()
    config.dataset.name, config.num_train_steps = "stack.npz", 2_000
    config.num_segmenter_steps, config.warmup_steps = count, warmup_steps
    if message is None:
        configs.check(config)
    else:
        with pytest.raises(UserError, match=message):
            configs.check(config)


def test_classes_are_refused_without_forces():
    config = importlib.import_module("configs.cardiac_labels").get_config()
    config.dataset.name, config.model.forces = "stack.npz", False
    with pytest.raises(UserError, match=r"model\.num_classes=4: forces of classes need model\.forces"):
        configs.check(config)


def rates(schedule, warmup_steps, num_train_steps):
    """The learning rate of each step: how far Adam goes when the gradient stays the same."""
    optimizer = make_optimizer(0.1, schedule, warmup_steps, num_train_steps)
    params = np.zeros(1, np.float32)
    state, found = optimizer.init(params), []
    for _ in range(num_train_steps):
        updates, state = optimizer.update(np.ones(1, np.float32), state)
        found.append(-float(updates[0]))
    return np.asarray(found)


def test_learning_rates_over_the_steps():
    assert set(SCHEDULES) == {"constant", "cosine"}
    np.testing.assert_allclose(rates("constant", 0, 5), 0.1, rtol=1e-4)
    np.testing.assert_allclose(rates("constant", 4, 6), [0, 0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-4, atol=1e-6)
    cosine = 0.001 + 0.099 * 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8))
    np.testing.assert_allclose(rates("cosine", 0, 8), cosine, rtol=1e-3)
    np.testing.assert_allclose(rates("cosine", 2, 10)[2:], cosine, rtol=1e-3)


def test_the_segmenter_and_the_rest_have_schedules_of_their_own():
    optimizer = make_optimizer(0.1, "cosine", 2, 9, num_segmenter_steps=5)
    params = {name: np.zeros(1, np.float32) for name in ("segmenter", "level_0", "position")}
    state, found = optimizer.init(params), []
    for _ in range(9):
        updates, state = optimizer.update(jax.tree.map(np.ones_like, params), state, params)
        found.append([-float(updates[name][0]) for name in params])
    first, *rest = np.asarray(found).T
    np.testing.assert_allclose(first, [*rates("cosine", 2, 5), 0, 0, 0, 0], rtol=1e-5)
    for then in rest:
        np.testing.assert_allclose(then, [0, 0, 0, 0, 0, *rates("cosine", 2, 4)], rtol=1e-5)


def test_constant_rates_are_plain_adam():
    params = {"w": np.ones(3, np.float32)}
    ours, plain = make_optimizer(1e-3, "constant", 0, 10), optax.adam(1e-3)
    gradient = {"w": np.asarray([1.0, -2.0, 0.5], np.float32)}
    updates = [optimizer.update(gradient, optimizer.init(params), params)[0] for optimizer in (ours, plain)]
    jax.tree.map(np.testing.assert_allclose, *updates)


def test_gradients_are_clipped_to_a_norm_over_all_parameters():
    """Adam's first step hides a gradient's size, its second moments do not: 0.001 times the square."""
    gradient = {"a": np.asarray([3.0, 0.0], np.float32), "b": np.asarray([4.0], np.float32)}
    for clip_norm, scale in ((1.0, 0.2), (10.0, 1.0), (0.0, 1.0)):
        optimizer = make_optimizer(1e-3, "constant", 0, 10, clip_norm)
        _, state = optimizer.update(gradient, optimizer.init(gradient))
        (adam,) = (s for s in jax.tree.leaves(state, is_leaf=lambda s: hasattr(s, "nu")) if hasattr(s, "nu"))
        for name, values in gradient.items():
            np.testing.assert_allclose(adam.nu[name], 1e-3 * (scale * values) ** 2, rtol=1e-5)
