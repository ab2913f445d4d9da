"""Saved models: folders of weights, settings and a card; models by their names."""

import dataclasses
import json
import sys
import types

import jax
import numpy as np
import pytest

import air_jax
from air_jax.errors import OptionError, UserError
from air_jax.file_registration.options import Options
from air_jax.losses import make_objective
from air_jax.models import AiR, Segmenter, UnrolledDemons
from air_jax.optimize import DenseField
from air_jax.registration import model_folder, pretrained, pretrained_folder
from air_jax.workdir.model_section import build_model, section_of

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def registration():
    model, image = AiR(patch_size=4), np.zeros((1, *SHAPE), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), image, image)["params"]
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.3 * generator.standard_normal(leaf.shape, dtype=np.float32), shapes)
    objective = make_objective("lncc", window=5, diffusion=0.1)
    return air_jax.Registration(
        model, params, SHAPE, 7, objective, DenseField(1.5), edges=True, normalization="percentile", refine_steps=2
    )


@pytest.fixture
def folder(registration, tmp_path):
    registration.save_pretrained(tmp_path / "model", name="digits", license="apache-2.0", limits="Faces.")
    return tmp_path / "model"


def test_a_saved_model_computes_the_same_without_the_extra_train(registration, folder, monkeypatch):
    for name in ("orbax", "orbax.checkpoint", "ml_collections", "air_jax.workdir.config", "air_jax.workdir.checkpoint"):
        monkeypatch.setitem(sys.modules, name, None)  # not to be imported
    loaded = air_jax.load(folder)
    fixed, moving = np.random.default_rng(1).random((2, *SHAPE[:2]), dtype=np.float32)
    before, after = (each.register(fixed, moving, refine_steps=0) for each in (registration, loaded))
    assert np.abs(before.displacement).max() > 0.1
    np.testing.assert_array_equal(after.displacement, before.displacement)
    np.testing.assert_array_equal(after.warped, before.warped)
    for field in dataclasses.fields(registration):
        if field.name not in ("model", "params"):
            assert getattr(loaded, field.name) == getattr(registration, field.name), field.name
    assert loaded.model == registration.model


def test_the_card_has_the_front_matter_of_hugging_face_and_the_texts(folder):
    text = (folder / "README.md").read_text()
    assert text.startswith('---\nlicense: "apache-2.0"\nlibrary_name: air_jax\n')
    for part in ("# digits\n", "## Limits\n\nFaces.\n", "## Data\n\nNot stated.\n", "parameters, 2-D images"):
        assert part in text


def test_a_segmenter_inside_is_saved_with_its_own_section():
    model = UnrolledDemons(segmenter=Segmenter(3, features=(4, 4)))
    section = {"model": json.loads(json.dumps(section_of(model.segmenter)))}
    assert build_model(json.loads(json.dumps(section_of(model))), section).segmenter.features == (4, 4)


def change(folder, name, value):
    config = json.loads((folder / "config.json").read_text())
    config[name] = config[name] | value if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(config))


def damage(folder, name, index, count=1):
    content = bytearray((folder / name).read_bytes())
    content[index : index + count] = bytes(255 - byte for byte in content[index : index + count])
    (folder / name).write_bytes(content)


FAULTS = {
    "a byte of the weights": (lambda f: damage(f, "model.safetensors", -9), "model.safetensors: is damaged"),
    "the head of the weights": (lambda f: damage(f, "model.safetensors", 0, 9), "model.safetensors: cannot be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: not found"),
    "half of the config": (lambda f: (f / "config.json").write_text('{"format": "air'), "config.json: cannot be read"),
    "another config": (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "is no model of air_jax"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: not found"),
    "a newer format": (lambda f: change(f, "format_version", 2), "install a newer one"),
    "another model": (lambda f: change(f, "model", {"width": 32}), "does not fit the model of config.json"),
    "an unknown model": (lambda f: change(f, "model", {"name": "bert"}), "model.name='bert': must be one of"),
    "an unknown option": (lambda f: change(f, "model", {"deep": 3}), "has no such option"),
    "a wrong value": (lambda f: change(f, "objective", {"window": 4}), "config.json: window=4: must be odd"),
    "a wrong setting": (lambda f: change(f, "normalization", "zscore"), "config.json: normalization='zscore': must be"),
    "a wrong step": (lambda f: change(f, "step", "last"), "config.json: step='last': must be an integer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_cannot_be_read_is_one_line(folder, fault):
    cause, message = FAULTS[fault]
    cause(folder)
    with pytest.raises(UserError, match=message) as caught:
        air_jax.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_saved_is_refused(registration, tmp_path):
    with pytest.raises(OptionError, match="Identity"):
        air_jax.without_model(2).save_pretrained(tmp_path / "model")
    similarity = make_objective(lambda fixed, warped: 0)
    classes = registration.objective.with_overlap(1.0, 3)
    with pytest.raises(OptionError, match="has class channels"):
        dataclasses.replace(registration, objective=classes).save_pretrained(tmp_path / "model")
    with pytest.raises(OptionError, match="a function cannot be saved"):
        dataclasses.replace(registration, objective=similarity).save_pretrained(tmp_path / "model")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="of something else, such as a run"):
        registration.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("model*"))


@pytest.mark.parametrize("name", [model_folder.CARD, model_folder.WEIGHTS])
def test_files_of_others_are_not_replaced(registration, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"has a {name} of something else"):
        registration.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_whose_writing_was_interrupted_can_be_written_again(registration, folder):
    (folder / model_folder.WEIGHTS).unlink()
    (folder / model_folder.CARD).unlink()
    registration.save_pretrained(folder)
    assert air_jax.load(folder).step == registration.step


def test_names_are_those_of_the_package_or_of_hugging_face(registration, folder, monkeypatch):
    monkeypatch.setattr(pretrained.resources, "files", lambda _: folder.parent.parent)
    monkeypatch.setattr(pretrained, "_SHIPPED", folder.parent.name)
    assert pretrained.pretrained_names() == ["model"]
    assert air_jax.load_pretrained("model").step == registration.step
    with pytest.raises(UserError, match="no pretrained model 'modell': did you mean 'model'"):
        air_jax.load_pretrained("modell")

    def snapshot_download(repository, *, allow_patterns):
        if repository != "owner/brains":
            raise OSError(f"404: {repository}\nnot found")
        assert set(allow_patterns) == {model_folder.WEIGHTS, model_folder.CONFIG, model_folder.CARD}
        return str(folder)

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert air_jax.load_pretrained("owner/brains").step == registration.step
    with pytest.raises(UserError, match=r"owner/none: cannot be downloaded from huggingface.co \(404: owner/none\)"):
        air_jax.load_pretrained("owner/none")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="install air_jax with its extra 'hub'"):
        air_jax.load_pretrained("owner/brains")


def test_the_options_of_files_take_one_model(folder, monkeypatch):
    monkeypatch.setattr(pretrained, "pretrained_names", lambda: ["model"])
    monkeypatch.setattr(pretrained.resources, "files", lambda _: folder.parent.parent)
    monkeypatch.setattr(pretrained, "_SHIPPED", folder.parent.name)
    files = (folder / "a.png", folder / "b.png", folder / "o")
    assert Options(*files, pretrained="model").workdir == pretrained_folder("model") == folder
    with pytest.raises(UserError, match="leave one of the two out"):
        Options(*files, pretrained="model", workdir=folder / "run")
