"""Configs of older versions, brought to the present format.

`config.json` carries `format_version`; version 0 is that of runs from before the number. `MIGRATIONS[n]` takes a config
of version `n` to version `n + 1`. Keys that a config lacks take their defaults afterwards.
"""

from collections.abc import Callable
from typing import Any

from air_jax.errors import UserError

FORMAT_VERSION = 1

# Renamed keys of version 0: section, old name, new name.
_RENAMED = (
    ("refine", "fluid_sigma", "update_sigma"),
    ("refine", "elastic_sigma", "total_sigma"),
    ("model", "num_squarings", "integration_steps"),
)
# Options of version 0's coarse-to-fine AiR that belong to other models now.
_FORCES = ("forces", "force_sigma", "elastic_sigma", "edges", "num_classes", "reach", "least_volume")
_FORCES += ("volume_preservation",)


def migrate(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns `config` in the present format.

    Args:
      config: content of a `config.json`, with `format_version` where it has one.
      name: the file's name for messages.

    Raises:
      UserError: the run is of a newer version, or of a model that no longer exists.
    """
    version = config.pop("format_version", 0)
    if not isinstance(version, int) or not 0 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{name}: format_version is {version!r}; this air_jax reads versions up to {FORMAT_VERSION}; "
            "install a newer one"
        )
    for step in range(version, FORMAT_VERSION):
        config = MIGRATIONS[step](config, name)
    return config


def _from_version_0(config: dict[str, Any], name: str) -> dict[str, Any]:
    model, loss = dict(config.get("model", {})), dict(config.get("loss", {}))
    if model.get("name") == "pyramid_air":
        if model.get("forces") or model.get("num_classes"):
            raise UserError(
                f"{name}: this run's model follows forces inside coarse-to-fine AiR, which air_jax no longer has; "
                "train gated_demons or unrolled_demons instead"
            )
        model = {key: value for key, value in model.items() if key not in _FORCES}
    loss.pop("segmentation", None)
    config = {key: value for key, value in config.items() if key != "num_segmenter_steps"}
    config |= {"model": model, "loss": loss}
    for section, old, new in _RENAMED:
        if old in config.get(section, {}):
            config[section] = {new if key == old else key: value for key, value in config[section].items()}
    return config


MIGRATIONS: list[Callable[[dict[str, Any], str], dict[str, Any]]] = [_from_version_0]
