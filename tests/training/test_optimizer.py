"""The optimizer: learning rates over the steps, clipping, frozen parameters."""

import jax
import numpy as np
import optax

from air_jax.training.optimizer import SCHEDULES, make_optimizer


def rates(schedule, warmup_steps, num_train_steps, **options):
    """The learning rate of each step: the length of Adam's update when the gradient stays the same."""
    optimizer = make_optimizer(0.1, schedule, warmup_steps, num_train_steps, **options)
    params = {"level_0": np.zeros(1, np.float32)}
    state, found = optimizer.init(params), []
    for _ in range(num_train_steps):
        updates, state = optimizer.update({"level_0": np.ones(1, np.float32)}, state, params)
        found.append(-float(updates["level_0"][0]))
    return np.asarray(found)


def test_learning_rates_over_the_steps():
    assert set(SCHEDULES) == {"constant", "cosine"}
    np.testing.assert_allclose(rates("constant", 0, 5), 0.1, rtol=1e-4)
    np.testing.assert_allclose(rates("constant", 4, 6), [0, 0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-4, atol=1e-6)
    cosine = 0.001 + 0.099 * 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8))
    np.testing.assert_allclose(rates("cosine", 0, 8), cosine, rtol=1e-3)
    np.testing.assert_allclose(rates("cosine", 2, 10)[2:], cosine, rtol=1e-3)
    np.testing.assert_allclose(rates("cosine", 2, 10, freeze_segmenter=True)[2:], cosine, rtol=1e-3)


def test_a_frozen_segmenter_stays_and_takes_no_memory():
    optimizer = make_optimizer(0.1, "constant", 0, 2, freeze_segmenter=True)
    params = {name: np.zeros(1000, np.float32) for name in ("segmenter", "level_0")}
    state = optimizer.init(params)
    updates, state = optimizer.update(jax.tree.map(np.ones_like, params), state, params)
    np.testing.assert_array_equal(updates["segmenter"], np.zeros(1000))
    np.testing.assert_allclose(updates["level_0"], -0.1, rtol=1e-4)
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(state)) < 2_100  # two moments of level_0


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
