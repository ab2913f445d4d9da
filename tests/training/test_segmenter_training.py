"""Training in two parts: first the segmenter alone, then all but it."""

import json
import math
import shutil

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from air_jax import io
from air_jax.data import Images
from air_jax.data.pairs import pairs_of_step
from air_jax.losses import make_objective, segmentation_loss
from air_jax.models import PyramidAiR
from air_jax.runtime.parallel import AXIS_NAME, data_parallel, replicate
from air_jax.training.optimizer import make_optimizer
from air_jax.training.pair_loss import TrainingTerms
from air_jax.training.run import train
from air_jax.training.steps import init_state, make_train_steps

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 12, 14, 1), dtype=np.uint8)
SEGMENTATIONS = (IMAGES[..., 0] > 128).astype(np.uint8)
MODEL = PyramidAiR(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(1,), width=8, forces=True, num_classes=2)
TERMS = TrainingTerms(soft_dice=1.0, segmentation=0.5, labels=(1,))


def run(num_segmenter_steps, num_steps, optimizer):
    """The states and metrics of single steps on one device; the first state is that before them."""
    devices = jax.local_devices()[:1]
    steps = make_train_steps(
        MODEL,
        optimizer,
        make_objective("mse"),
        seed=0,
        batch_size=2,
        num_devices=1,
        axis_name=AXIS_NAME,
        terms=TERMS,
        num_segmenter_steps=num_segmenter_steps,
    )
    run_steps = data_parallel(steps, devices)
    initial = init_state(MODEL, optimizer, 0, (12, 14, 1))
    state, images = replicate((initial, Images(IMAGES, None, SEGMENTATIONS)), devices)
    found = [(jax.device_get(state), None)]
    for _ in range(num_steps):
        state, metrics = jax.device_get(run_steps(state, images, 1))
        found.append((state, metrics))
    return found


def changed(before, after):
    """Names of the parts whose parameters differ."""
    pairs = {name: (before.params[name], after.params[name]) for name in before.params}
    return {name for name, pair in pairs.items() if any(map(np.any, jax.tree.leaves(jax.tree.map(np.subtract, *pair))))}


def test_each_part_trains_in_its_turn():
    optimizer = make_optimizer(1e-2, "cosine", 0, 4, 1.0, num_segmenter_steps=2)
    states, metrics = zip(*run(2, 4, optimizer), strict=True)
    for step in (1, 2):
        assert changed(states[step - 1], states[step]) == {"segmenter"}
        assert {name for name, value in metrics[step].items() if np.isnan(value)} == {"mse", "soft_dice"}
        np.testing.assert_allclose(metrics[step]["loss"], 0.5 * metrics[step]["segmentation"], rtol=1e-6)
    for step in (3, 4):
        assert changed(states[step - 1], states[step]) == {"level_0"}
        assert {name for name, value in metrics[step].items() if np.isnan(value)} == {"segmentation"}
        np.testing.assert_allclose(metrics[step]["loss"], metrics[step]["mse"] + metrics[step]["soft_dice"], rtol=1e-6)


def test_the_segmenter_alone_learns_from_both_images():
    """One step of gradient descent of rate 1, beside the derivative of the loss as it is defined."""
    (before, _), (after, metrics) = run(math.inf, 1, optax.sgd(1.0))
    assert set(metrics) == {"loss", "segmentation", "grad_norm"}
    whole = run(0, 1, optax.sgd(1.0))[1][1]  # the same pairs
    np.testing.assert_allclose(metrics["segmentation"], whole["segmentation"], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], 0.5 * whole["segmentation"], rtol=1e-5)

    indices = np.concatenate(pairs_of_step(0, 0, 6, 2, None))

    def loss(params):
        logits = MODEL.apply({"params": params}, *[IMAGES[indices] / np.float32(255)] * 2)[1]["logits"][0]
        return 0.5 * segmentation_loss(logits, SEGMENTATIONS[indices].astype(np.int32), (1,)).mean()

    gradient = jax.grad(loss)(before.params)["segmenter"]
    taken = jax.tree.map(np.subtract, before.params["segmenter"], after.params["segmenter"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), taken, gradient)


def small_config(folder, num_segmenter_steps):
    from configs import volumes

    io.write_stack(folder / "s.npz", IMAGES[..., 0], SEGMENTATIONS)
    config = volumes.get_config()
    config.dataset.name, config.dataset.normalization = str(folder / "s.npz"), "range"
    config.num_train_steps, config.num_segmenter_steps = 4, num_segmenter_steps
    config.batch_size, config.log_every = 4, 2
    config.eval_every = 2
    config.warmup_steps, config.refine.num_steps = 0, 0
    config.model.update({"stride": (4,), "patch_size": (4,), "spacing": (4,), "num_steps": (1,), "width": 8})
    config.model.update({"downsampling": (1,), "num_classes": 2})
    config.loss.update({"segmentation": 1.0, "window": 3})
    return config


@pytest.mark.parametrize("num_segmenter_steps", [2, -1])
def test_a_run_says_what_it_looked_at(tmp_path, num_segmenter_steps):
    report = train(small_config(tmp_path, num_segmenter_steps), tmp_path / "run")
    assert report["checkpoint_step"] in (2, 4)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    first, then, *_ = (line for line in lines if "loss" in line)
    looked_at = [{"lncc", "segmentation"} & set(line) for line in (first, then)]
    assert looked_at == [{"segmentation"}, {"lncc"} if num_segmenter_steps == 2 else {"segmentation"}]


def test_a_run_resumes_between_the_parts(tmp_path, capsys):
    config = small_config(tmp_path, 2)
    train(config, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"

    def last():
        with ocp.StandardCheckpointer() as checkpointer:
            return [checkpointer.restore(checkpoints / "4" / item) for item in ("params", "opt_state")]

    uninterrupted = last()
    shutil.rmtree(checkpoints / "4")
    train(config, tmp_path / "run")
    assert "resuming from step 2" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, last(), uninterrupted)
