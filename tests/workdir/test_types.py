"""Types of a config's values: those of the defaults, for config files and for `config.json`."""

import pytest
from ml_collections import ConfigDict

from air_jax import UserError
from air_jax.workdir.config import complete
from air_jax.workdir.defaults import default_config


def changed(key, value):
    config = default_config("air")
    *sections, last = key.split(".")
    section = config
    for name in sections:
        section = section[name]
    with config.ignore_type():
        section[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 1),  # an integer is a number
        ("streaming", True),
        ("streaming", None),
        ("dataset.labels", "labels"),
        ("dataset.atlas", None),
        ("loss.window", 9),
    ],
)
def test_values_of_the_right_type_are_kept(key, value):
    config = complete(changed(key, value))
    for name in key.split("."):
        config = config[name]
    assert config == value


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("seed", "one", "an integer"),
        ("seed", 1.0, "an integer"),
        ("seed", True, "an integer"),
        ("seed", None, "an integer"),
        ("learning_rate", "fast", "a finite number"),
        ("learning_rate", float("nan"), "a finite number"),
        ("compilation_cache", 1, "True or False"),
        ("streaming", "yes", "True or False"),
        ("schedule", 3, "a text"),
        ("dataset.labels", 3, "a text"),
        ("dataset.name", None, "a text"),
        ("loss", None, "a section of keys"),
        ("eval", "many", "a section of keys"),
        ("eval.num_pairs", [3], "an integer"),
    ],
)
def test_values_of_another_type_are_named(key, value, kind):
    with pytest.raises(UserError, match=rf"^--config\.{key}=.*: must be {kind}$"):
        complete(changed(key, value))


@pytest.mark.parametrize("model", [None, "air", {}, {"name": 3}, {"name": None}, {"name": "other"}])
def test_a_config_without_a_model_is_refused(model):
    with pytest.raises(UserError, match=r"^--config\.model"):
        complete(ConfigDict({"seed": 1, "model": model}))
