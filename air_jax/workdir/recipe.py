"""A config parsed for inference: the model, and how its displacement is refined.

Everything that `air_jax.load` needs is here. What training needs besides is in `air_jax.training.recipe`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from air_jax.checks import MOST_STEPS, is_integer, is_number
from air_jax.errors import UserError
from air_jax.losses import CONSISTENCIES, Objective, make_objective
from air_jax.models import SEGMENTERS
from air_jax.optimize import FIELDS, DenseField, Field
from air_jax.workdir.config import SavedConfig
from air_jax.workdir.defaults import Config
from air_jax.workdir.model_section import build_model, naming_key

FOLDING_WEIGHT = 5.0  # of the penalty in refinement, where the training had none and the field can fold
# Keys of the section `loss` that are no terms of the objective.
TRAINING_LOSSES = ("soft_dice", "endpoint", *CONSISTENCIES)
_SETTINGS = ("edges", "train_similarity", *TRAINING_LOSSES)


@dataclasses.dataclass(frozen=True)
class InferenceRecipe:
    """Everything about a run that registering two images needs, but the parameters.

    Attributes:
      model: the module; `Segmenter` for a segmenter's run.
      normalization: key of `air_jax.transforms.intensity.WINDOWS`.
      objective: minimised by refinement: that of the training, with a folding penalty where the training had none and
        the field can fold.
      field: parametrisation of refinement.
      edges: True if refinement compares the images' edges as further channels.
      overlap_weight: weight of the overlap of the segmenter's classes in refinement; 0 without a segmenter.
    """

    model: nn.Module
    normalization: str
    objective: Objective
    field: Field
    edges: bool = False
    overlap_weight: float = 0.0


def inference_recipe(saved: SavedConfig) -> InferenceRecipe:
    """Parses what inference needs of a run's config.

    Raises:
      UserError: a key has a value that it cannot take; one line names it.
    """
    config = saved.config
    model = build_model(config.model, saved.segmenter)
    if is_segmenter(config):
        return InferenceRecipe(model, config.dataset.normalization, make_objective("mse"), DenseField())
    if saved.segmenter and saved.segmenter["normalization"] != config.dataset.normalization:
        raise UserError(
            f"--config.dataset.normalization={config.dataset.normalization!r}: the segmenter was trained with "
            f"{saved.segmenter['normalization']!r}; use the same"
        )
    field = build_field(config)
    folding = {} if isinstance(field, DenseField) or config.loss.folding else {"folding": FOLDING_WEIGHT}
    require_number(config, "refine.overlap")
    return InferenceRecipe(
        model,
        config.dataset.normalization,
        training_objective(config, **folding),
        field,
        bool(config.loss.edges),
        config.refine.overlap if saved.segmenter else 0.0,
    )


def training_objective(config: Config, **changes: float) -> Objective:
    """The objective of the section `loss`, with `changes` to its weights."""
    for key in config.loss:
        if key not in ("similarity", "window", "edges", "train_similarity"):
            require_number(config, f"loss.{key}")
    terms: dict[str, Any] = {key: value for key, value in config.loss.items() if key not in _SETTINGS} | changes
    similarity = terms.pop("similarity")
    if terms.get(similarity):
        raise UserError(
            f"--config.loss.{similarity}={terms[similarity]!r}: is loss.similarity already, with weight 1; "
            "set the others' weights against it"
        )
    with naming_key("loss"):
        return make_objective(similarity, window=terms.pop("window") or None, **terms)


def build_field(config: Config) -> Field:
    """The parametrisation of the section `refine`."""
    kind = config.refine.field
    require(config, "refine.field", kind in FIELDS, one_of(FIELDS))
    with naming_key("refine"):  # the sigmas are checked whichever field is chosen
        dense = DenseField(update_sigma=config.refine.update_sigma, total_sigma=config.refine.total_sigma)
        return dense if FIELDS[kind] is DenseField else FIELDS[kind]()


def is_segmenter(config: Config) -> bool:
    """Whether a config describes a segmenter's run, and not a registration."""
    return config.model.name in SEGMENTERS


# ---- Checks ----------------------------------------------------------------------------------------------------------


def require(config: Config, key: str, condition: bool, what: str) -> None:
    """Raises `UserError` with one line that names `key` and its value, unless `condition`."""
    if not condition:
        raise UserError(f"--config.{key}={value_of(config, key)!r}: {what}")


def require_number(config: Config, key: str, *, positive: bool = False) -> None:
    """Raises `UserError` unless the value of `key` is finite and at least 0, or above 0 if `positive`."""
    value = value_of(config, key)
    what = "must be a positive number" if positive else "must be a number and not negative"
    require(config, key, is_number(value) and (value > 0 if positive else value >= 0), what)


def require_integer(config: Config, key: str, low: int, high: int = MOST_STEPS) -> None:
    """Raises `UserError` unless the value of `key` is an integer from `low` to `high`."""
    value = value_of(config, key)
    require(config, key, is_integer(value) and value >= low, f"must be an integer, at least {low}")
    require(config, key, value <= high, f"must be at most {high}")


def value_of(config: Config, key: str) -> Any:
    """The value at a path of keys such as `refine.field`."""
    for part in key.split("."):
        config = config[part]
    return config


def one_of(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    """The end of a message that lists the allowed names."""
    return f"must be one of {', '.join(names)}"
