"""A saved model: a folder of `model.safetensors`, `config.json` and `README.md`, which needs no run and no ConfigDict.

`config.json` has a format version of its own. It holds the model's section, the normalisation, the refinement, and a
checksum of the parameters. It is written last, so a folder that a killed process left is noticed.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax._version import __version__
from air_jax.checks import MOST_STEPS, check_integer, is_integer
from air_jax.errors import OptionError, UserError, first_line
from air_jax.losses import Objective
from air_jax.optimize import FIELDS, Field
from air_jax.registration.model_card import ModelCard, card_text
from air_jax.runtime.files import read_bytes, read_json, replace_text, replacing
from air_jax.workdir.checksums import checksum
from air_jax.workdir.model_section import NORMALIZATION, SEGMENTER, build_model, section_of

FORMAT, FORMAT_VERSION = "air_jax model", 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_SEPARATOR = "/"  # of the keys of the tree of parameters
_PLAIN = ("step", "edges", "overlap_weight", "normalization", "refine_steps")  # settings that JSON has as they are


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a saved model, whole or not; a run's folder does not."""
    return (folder / WEIGHTS).exists() or _has_config(folder)


def _has_config(folder: Path) -> bool:
    try:
        content = read_json(folder / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def write_model(folder: Path, settings: dict[str, Any], params: Any, card: ModelCard) -> None:
    """Writes a model's folder; replaces a model that is there.

    Args:
      folder: path; made where there is none.
      settings: the attributes of a `Registration` but `params`, by name.
      params: its parameters.
      card: texts of `README.md`.

    Raises:
      OptionError: a setting cannot be written.
      UserError: the folder holds something else, or cannot be written.
    """
    import safetensors.numpy

    config = _config_of(settings)
    tensors = _flat(jax.tree.map(np.asarray, params))
    config["parameters"] = {"number": sum(tensor.size for tensor in tensors.values()), "sha256": checksum(params)}
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder")
    if not _has_config(folder):
        for name in (CONFIG, WEIGHTS, CARD):
            if (folder / name).exists():
                raise UserError(f"{folder}: has a {name} of something else, such as a run; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The config comes first: with it, a folder whose writing was interrupted is known and can be written again.
        replace_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
        with replacing(folder / WEIGHTS) as file:
            file.write(safetensors.numpy.save(tensors, metadata={"format": FORMAT}))
        replace_text(folder / CARD, card_text(card, config))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error


def read_model(folder: Path) -> tuple[dict[str, Any], Any]:
    """Reads a model's folder.

    Returns:
      The attributes of a `Registration` but `params`, by name, and the parameters as NumPy arrays.

    Raises:
      UserError: one line that names the file: it is missing or damaged, of a newer format, or of something else.
    """
    path = folder / CONFIG
    config = _read_config(path)
    try:
        settings = _settings_of(config, f"{path}: ")
        expected = _shapes(settings["model"], settings["image_shape"])
        number, digest = config["parameters"]["number"], config["parameters"]["sha256"]
    except UserError:
        raise
    except OptionError as error:
        raise UserError(f"{path}: {error}; get the folder again") from error
    except (KeyError, TypeError, ValueError, AttributeError, MemoryError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); get the folder again") from error
    weights = folder / WEIGHTS
    tensors = _read_tensors(weights)
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise UserError(
            f"{weights}: does not fit the model of {CONFIG}: {names[0]} has shape {found.get(names[0])}, "
            f"not {expected.get(names[0])}; get the folder again"
        )
    params = _nested(tensors)
    if sum(tensor.size for tensor in tensors.values()) != number or checksum(params) != digest:
        raise UserError(f"{weights}: is damaged, its checksum is not that of {CONFIG}; get the folder again")
    return settings, params


def _config_of(settings: dict[str, Any]) -> dict[str, Any]:
    model, objective, field = settings["model"], settings["objective"], settings["field"]
    config = {"format": FORMAT, "format_version": FORMAT_VERSION, "air_jax_version": __version__}
    config |= {"image_shape": list(settings["image_shape"])} | {name: settings[name] for name in _PLAIN}
    config["model"] = section_of(model)
    if getattr(model, SEGMENTER, None) is not None:
        config[SEGMENTER] = {"model": section_of(model.segmenter), NORMALIZATION: settings["normalization"]}
    if not isinstance(objective.similarity, str):
        raise OptionError("objective", objective.similarity, "a similarity that is a function cannot be saved")
    if objective.num_classes:
        raise OptionError("objective", objective, "has class channels; give the registration an overlap_weight instead")
    if not all(isinstance(weight, float) for _, weight in (*objective.weights, ("", objective.overlap_weight))):
        raise OptionError("objective", objective, "weights that are arrays cannot be saved; give numbers")
    config["objective"] = {"similarity": objective.similarity, "window": objective.window}
    config["objective"] |= {"weights": dict(objective.weights)}
    names = [name for name, kind in FIELDS.items() if type(field) is kind]
    if not names:
        raise OptionError("field", field, f"cannot be saved; it must be one of {', '.join(FIELDS)}")
    config["field"] = {"name": names[0], **dataclasses.asdict(field)}
    return config


def _settings_of(config: dict[str, Any], prefix: str) -> dict[str, Any]:
    settings = {name: config[name] for name in _PLAIN}
    check_integer("step", settings["step"], 0)
    shape = config["image_shape"]
    valid = isinstance(shape, list) and len(shape) in (3, 4)
    if not (valid and all(is_integer(size) and 0 < size <= MOST_STEPS for size in shape)):
        raise UserError(f"{prefix}image_shape={shape!r}: must be [H, W, C] or [D, H, W, C], each at most {MOST_STEPS}")
    objective = config["objective"]
    section = dict(config["field"])
    kind: Any = FIELDS[section.pop("name")]
    field: Field = kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in section.items()})
    return settings | {
        "image_shape": tuple(shape),
        "model": build_model(config["model"], config.get(SEGMENTER), prefix=prefix),
        "objective": Objective(objective["similarity"], objective["window"], tuple(objective["weights"].items())),
        "field": field,
    }


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; is {path.parent} the folder of a saved model?") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)}); get the folder again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{path}: is no model of air_jax; save one with Registration.save_pretrained")
    version: Any = config.get("format_version")
    if not is_integer(version) or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version is {version!r}; this air_jax reads versions up to {FORMAT_VERSION}; "
            "install a newer one"
        )
    return config


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load(read_bytes(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; get the folder again") from error
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)}); get the folder again") from error


def _shapes(model: Any, image_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the model's parameters by their name in the file; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image, image)
    return {name: leaf.shape for name, leaf in _flat(variables.get("params", {})).items()}


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, name + _SEPARATOR) if isinstance(value, dict) else {name: value}
    return flat


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(_SEPARATOR)
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return tree
