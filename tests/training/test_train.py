"""Whole runs, small: their files, scores, resumption and refusals."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import matplotlib.image
import numpy as np
import orbax.checkpoint as ocp
import pytest
import scipy.ndimage
from helpers import REPOSITORY

import air_jax
from air_jax.training import run, tasks
from air_jax.training.run import evaluate, train
from air_jax.workdir import config as configs
from air_jax.workdir.checkpoint import restore_best_params

SCORES = {"mse", "dice", "folding_percent", "any_corner_folding_percent", "ndv_percent", "sd_log_jacobian"}


def unlocked(workdir):
    """The config of a run, to be changed."""
    return configs.read(workdir).config.unlock()


def lines_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_leaves_what_the_contract_says(finished_run):
    config = json.loads((finished_run / "config.json").read_text())
    assert config["num_train_steps"] == 5
    assert config["image_shape"] == [28, 28, 1]
    lines = lines_of(finished_run)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 5]
    assert all(line["pairs_per_second"] > 0 and line["mse"] == line["loss"] for line in lines if "loss" in line)
    assert [line["step"] for line in lines if "validation_dice" in line] == [4, 5]
    report = json.loads((finished_run / "eval.json").read_text())
    for pairs in ("random_pairs", "same_label_pairs"):
        assert set(report[pairs]["before"]) == set(report[pairs]["after"]) == SCORES
        assert report[pairs]["before"]["folding_percent"] == 0
    assert report["seconds_per_pair"] > 0
    assert all(line["learning_rate"] == 1e-3 and line["update_norm"] > 0 for line in lines if "loss" in line)
    page = (finished_run / "report.html").read_text()
    assert all(f'"caption": "{name}: image ' in page for name in ("best", "median", "worst"))
    figures = {path.name for path in (finished_run / "figures").iterdir()}
    assert figures == {"attention.png", "curves.png", "registration.png"}
    for name in figures:
        picture = matplotlib.image.imread(finished_run / "figures" / name)
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.05, "an empty picture"


@pytest.mark.slow
def test_scores_before_registration_are_those_of_the_images(finished_run):
    from air_jax.data import load_dataset
    from air_jax.data.pairs import random_pairs

    test = load_dataset("digits", train_fraction=0.8, num_validation=200).test
    pairs = random_pairs(0, len(test), 12)
    fixed, moving = (test.images[pairs[:, side]].astype(np.float64) / 255 for side in (0, 1))
    before = json.loads((finished_run / "eval.json").read_text())["random_pairs"]["before"]
    np.testing.assert_allclose(before["mse"], ((fixed - moving) ** 2).mean(), rtol=1e-5)
    a, b = (image.reshape(12, -1) > 0.5 for image in (fixed, moving))
    np.testing.assert_allclose(before["dice"], (2 * (a & b).sum(1) / (a.sum(1) + b.sum(1))).mean(), rtol=1e-5)


@pytest.mark.slow
def test_evaluate_again_gives_the_same_scores(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "figures")
    with (tmp_path / "copy" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')  # as a killed run leaves it
    before = json.loads((finished_run / "eval.json").read_text())
    (tmp_path / "copy" / "eval.json").unlink()
    after = evaluate(tmp_path / "copy")
    assert {**after, "seconds_per_pair": 0} == {**before, "seconds_per_pair": 0}
    assert (tmp_path / "copy" / "eval.json").exists()
    assert (tmp_path / "copy" / "figures" / "curves.png").exists()


@pytest.mark.slow
def test_scores_after_registration_agree_with_scipy(finished_run):
    from air_jax.data import load_dataset
    from air_jax.data.pairs import same_class_pairs

    test = load_dataset("digits", train_fraction=0.8, num_validation=200).test
    pairs = same_class_pairs(0, test.classes, 12)
    fixed, moving = (test.images[pairs[:, side], ..., 0] for side in (0, 1))
    displacement = np.asarray(air_jax.load(finished_run).register(fixed, moving).displacement, np.float64)
    coordinates = np.stack(np.meshgrid(np.arange(28), np.arange(28), indexing="ij"), axis=-1) + displacement
    warped = [
        scipy.ndimage.map_coordinates(image / 255, np.moveaxis(c, -1, 0), order=1, mode="grid-constant")
        for image, c in zip(moving, coordinates, strict=True)
    ]
    after = json.loads((finished_run / "eval.json").read_text())["same_label_pairs"]["after"]
    np.testing.assert_allclose(after["mse"], ((fixed / 255 - warped) ** 2).mean(), rtol=1e-4)
    rows, columns = np.gradient(coordinates, axis=(1, 2))
    determinant = (rows[..., 0] * columns[..., 1] - rows[..., 1] * columns[..., 0])[:, 1:-1, 1:-1]
    np.testing.assert_allclose(after["folding_percent"], 100 * (determinant <= 0).mean(), atol=1e-6)
    np.testing.assert_allclose(
        after["sd_log_jacobian"], np.log(np.clip(determinant, 1e-9, None)).std(axis=(1, 2)).mean(), rtol=1e-3
    )


@pytest.mark.slow
def test_training_improves_the_registration_of_unseen_pairs(digits_config, tmp_path):
    digits_config.num_train_steps, digits_config.log_every, digits_config.eval_every = 150, 50, 150
    digits_config.batch_size, digits_config.eval.num_pairs = 32, 100
    report = train(digits_config, tmp_path / "run")
    losses = [line["loss"] for line in lines_of(tmp_path / "run") if "loss" in line]
    assert losses == sorted(losses, reverse=True)
    before, after = (report["random_pairs"][when] for when in ("before", "after"))
    assert after["mse"] < 0.8 * before["mse"]
    assert after["dice"] > before["dice"] + 0.02


@pytest.mark.slow
def test_load_needs_the_workdir_alone(finished_run, tmp_path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    registration = air_jax.load("moved")
    lines = [line for line in lines_of(finished_run) if "validation_dice" in line]
    assert registration.step == max(lines, key=lambda line: (line["validation_dice"], line["step"]))["step"]
    image = np.random.default_rng(0).random((28, 28), dtype=np.float32)
    assert registration.register(image, image).displacement.shape == (28, 28, 2)


@pytest.mark.slow
def test_a_workdir_of_another_config_is_refused_and_left_alone(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "copy")
    config = unlocked(finished_run)
    config.model.head = "dense"
    config.seed = 7
    with pytest.raises(
        air_jax.UserError, match=r"model\.head \('control_grid' there, 'dense' now\), seed \(0 there, 7 now\)"
    ):
        train(config, tmp_path / "copy")
    for name in ("config.json", "eval.json", "metrics.jsonl"):
        assert (tmp_path / "copy" / name).read_bytes() == (finished_run / name).read_bytes()


@pytest.mark.slow
def test_raising_the_number_of_steps_continues_and_lowering_it_is_refused(finished_run, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(finished_run, workdir)
    config = unlocked(workdir)
    config.num_train_steps = 8
    train(config, workdir)
    assert "resuming from step 5 of 8" in capsys.readouterr().out
    assert [line["step"] for line in lines_of(workdir) if "loss" in line] == [2, 4, 5, 6, 8]
    assert json.loads((workdir / "config.json").read_text())["num_train_steps"] == 8
    config.num_train_steps = 6
    with pytest.raises(air_jax.UserError, match=r"num_train_steps=6: the run in .* is at step 8 already"):
        train(config, workdir)
    assert json.loads((workdir / "config.json").read_text())["num_train_steps"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_run_goes_on_in_one_program_that_xla_partitions(finished_run, tmp_path, monkeypatch, streaming):
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {})
    losses = []
    for sharded_jit in (False, True):
        workdir = tmp_path / str(sharded_jit)
        shutil.copytree(finished_run, workdir)
        config = unlocked(workdir)
        config.num_train_steps, config.sharded_jit, config.streaming = 8, sharded_jit, streaming
        train(config, workdir)
        losses.append([line["loss"] for line in lines_of(workdir) if line["step"] > 5 and "loss" in line])
    assert len(losses[0]) == 2
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_trained_again(finished_run, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(finished_run, workdir)
    shutil.rmtree(workdir / "checkpoints" / "5" / "params")
    config = unlocked(workdir)
    train(config, workdir)
    printed = capsys.readouterr().out
    assert "step 5 is damaged" in printed
    assert "resuming from step 4 of 5" in printed
    assert [line["step"] for line in lines_of(workdir) if "loss" in line] == [2, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    digits_config, tmp_path, monkeypatch, spoilt
):
    workdir = tmp_path / "run"
    monkeypatch.setattr(run, "evaluate", lambda *_, **__: {})
    train(digits_config, workdir)
    digits_config.num_train_steps = 12

    def spoilt_loss(apply, pair, **_):
        warped = apply(pair.fixed, pair.moving, deterministic=False)[0] + pair.moving
        if spoilt == "loss":
            return warped.mean(axis=(1, 2, 3)) * np.nan, {}
        # The root of zero is finite, its derivative is not: it spoils the parameters without showing in this loss.
        return jax.numpy.sqrt(0 * warped).mean(axis=(1, 2, 3)), {}

    monkeypatch.setattr(tasks, "pair_loss", spoilt_loss)
    with pytest.raises(air_jax.UserError, match=r"not finite at step 5, .*checkpoint of step 4") as error:
        train(digits_config, workdir)
    assert "\n" not in str(error.value)
    _, params = restore_best_params(workdir / "checkpoints")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()) == 4


def test_the_batch_must_divide_over_the_devices(digits_config, tmp_path):
    digits_config.batch_size = 6
    with pytest.raises(air_jax.UserError, match="batch_size=6: must be a multiple of the 4 devices"):
        train(digits_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- Real processes ------------------------------------------------------------------------------------------------

SMALL = [
    "--config.num_train_steps=240",
    "--config.batch_size=8",
    "--config.log_every=4",
    "--config.eval_every=24",
    "--config.eval.num_pairs=12",
]


def command(workdir):
    return [sys.executable, "-m", "air_jax.main", "--config=configs/digits.py", f"--workdir={workdir}", *SMALL]


def final_state(workdir):
    with ocp.StandardCheckpointer() as checkpointer:
        return [checkpointer.restore(workdir / "checkpoints" / "240" / item) for item in ("params", "opt_state")]


@pytest.mark.slow
@pytest.mark.real_compiler
def test_a_killed_and_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    options = {"cwd": REPOSITORY, "env": environment, "text": True}
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True, **options)

    with subprocess.Popen(
        command(tmp_path / "killed"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    ) as run:
        lines = list(itertools.takewhile(lambda line: not line.startswith("step 60/240"), run.stdout))
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL, "".join(lines)
    steps = {int(path.name) for path in (tmp_path / "killed" / "checkpoints").iterdir() if path.name.isdigit()}
    assert steps, "no checkpoint was written before the kill"
    assert max(steps) < 240, "the run was over before it was killed"
    result = subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True, **options)
    assert "resuming from step" in result.stdout

    whole, resumed = final_state(tmp_path / "whole"), final_state(tmp_path / "killed")
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)

    def keep(line):
        return {key: value for key, value in line.items() if "second" not in key}

    assert [keep(line) for line in lines_of(tmp_path / "whole")] == [
        keep(line) for line in lines_of(tmp_path / "killed")
    ]
