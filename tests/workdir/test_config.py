"""`config.json`: written, read, compared, and read from runs of older versions."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from helpers import REPOSITORY

import air_jax
from air_jax.errors import UserError
from air_jax.training.optimizer import SCHEDULES
from air_jax.workdir import config as configs
from air_jax.workdir.config import SavedConfig
from air_jax.workdir.defaults import default_config
from air_jax.workdir.migration import FORMAT_VERSION, MIGRATIONS

# Runs of the version before `format_version`, each with a pair and the displacements of that version.
OLD_RUNS = REPOSITORY / "tests" / "workdir" / "old_runs"


def unpacked(name, folder):
    with zipfile.ZipFile(OLD_RUNS / f"{name}.zip") as archive:
        archive.extractall(folder / name)
    return folder / name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["air", "pyramid_air", "unet"])
def test_a_run_of_the_version_before_loads_and_registers_alike(name, tmp_path):
    workdir = unpacked(name, tmp_path)
    assert "format_version" not in json.loads((workdir / "config.json").read_text())
    registration = air_jax.load(workdir)
    with np.load(workdir / "expected.npz") as expected:
        pair = expected["fixed"], expected["moving"]
        assert np.abs(expected["displacement"]).max() > 0
        np.testing.assert_allclose(registration.register(*pair).displacement, expected["displacement"], atol=1e-5)
        refined = registration.register(*pair, refine_steps=4).displacement
        np.testing.assert_allclose(refined, expected["refined"], atol=1e-4)


def test_an_old_run_whose_model_was_taken_apart_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="train gated_demons or unrolled_demons instead") as error:
        air_jax.load(unpacked("forces", tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_loading_needs_only_what_inference_needs(tmp_path):
    workdir = unpacked("air", tmp_path)
    content = json.loads((workdir / "config.json").read_text())
    kept = {key: content[key] for key in ("model", "image_shape")}
    kept["dataset"] = {"normalization": "range"}
    (workdir / "config.json").write_text(json.dumps(kept))
    registration = air_jax.load(workdir)
    with np.load(workdir / "expected.npz") as expected:
        found = registration.register(expected["fixed"], expected["moving"]).displacement
        np.testing.assert_allclose(found, expected["displacement"], atol=1e-5)


def test_every_version_has_a_migration():
    assert len(MIGRATIONS) == FORMAT_VERSION


def test_keys_of_version_0_take_their_new_names(tmp_path):
    workdir = unpacked("unet", tmp_path)
    content = json.loads((workdir / "config.json").read_text())
    content["refine"] |= {"fluid_sigma": 1.5, "elastic_sigma": 0.25}
    content["model"]["num_squarings"] = 3
    (workdir / "config.json").write_text(json.dumps(content))
    config = configs.read(workdir).config
    assert (config.refine.update_sigma, config.refine.total_sigma) == (1.5, 0.25)
    assert config.model.integration_steps == 3
    assert "num_squarings" not in config.model
    assert "num_segmenter_steps" not in config


def test_a_newer_format_is_refused(tmp_path):
    workdir = unpacked("air", tmp_path)
    content = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**content, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(UserError, match=r"format_version is 2; this air_jax reads versions up to 1"):
        configs.read(workdir)


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"image_shape": 3}', '{"image_shape": [28, 28, 1]}'])
def test_a_file_that_is_no_config_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(
        UserError, match=r"config\.json: (cannot be read|is no run's config|image_shape is|model=)"
    ) as error:
        configs.read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_config_comes_back_as_it_was_written(tmp_path):
    config = default_config("gated_demons")
    config.model.downsampling = (4, 2, 2)
    config.seed = 7
    segmenter = {"model": {"name": "segmenter", "num_classes": 3}, "normalization": "range"}
    configs.write(SavedConfig(config, (8, 9, 1), segmenter), tmp_path)
    saved = configs.read(tmp_path)
    assert saved.config.to_dict() == config.to_dict()
    assert saved.config.model.downsampling == (4, 2, 2)
    assert saved.image_shape == (8, 9, 1)
    assert saved.segmenter == segmenter
    configs.check_same_run(config, tmp_path)
    with pytest.raises(UserError, match=r"images \[8, 9, 1\], not \[8, 8, 1\]"):
        configs.check_same_images((8, 8, 1), tmp_path)


def test_keys_of_speed_and_refinement_may_differ(tmp_path):
    config = default_config()
    configs.write(SavedConfig(config, (28, 28, 1)), tmp_path)
    config.streaming, config.refine.num_steps, config.refine.update_sigma = True, 5, 1.0
    config.watch = "tensorboard"
    configs.check_same_run(config, tmp_path)
    config.seed, config.model.head = 7, "dense"
    with pytest.raises(UserError, match=r"model\.head \('control_grid' there, 'dense' now\), seed \(0 there, 7 now\)"):
        configs.check_same_run(config, tmp_path)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_only_a_constant_schedule_can_be_prolonged(schedule, tmp_path):
    config = default_config()
    config.schedule = schedule
    configs.write(SavedConfig(config, (28, 28, 1)), tmp_path)
    config.num_train_steps += 1
    if schedule == "constant":
        configs.check_same_run(config, tmp_path)
    else:
        with pytest.raises(UserError, match="num_train_steps"):
            configs.check_same_run(config, tmp_path)


@pytest.mark.slow
def test_a_model_that_is_not_that_of_the_weights_is_refused_and_moved_data_are_not(finished_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished_run, workdir)
    content = json.loads((workdir / "config.json").read_text())
    moved = content | {"seed": 7, "dataset": content["dataset"] | {"name": "elsewhere"}}
    (workdir / "config.json").write_text(json.dumps(moved))
    assert air_jax.load(workdir).step == air_jax.load(finished_run).step
    for change in ({"model": content["model"] | {"width": 32}}, {"image_shape": [32, 28, 1]}):
        (workdir / "config.json").write_text(json.dumps(content | change))
        with pytest.raises(
            UserError, match=rf"is of a run with another config: \S*{next(iter(change))[:5]}.* there, .* now"
        ):
            air_jax.load(workdir)
