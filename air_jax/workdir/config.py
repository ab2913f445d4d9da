"""Configs: checking them, building what they describe, and keeping them beside a run as `config.json`."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from air_jax.data import Images, label_ids_of
from air_jax.data.augmentation import Augmentation
from air_jax.data.deformation import Deformation
from air_jax.errors import UserError
from air_jax.losses import CONSISTENCIES, REGULARIZERS, SIMILARITIES, Objective, make_objective
from air_jax.models import MODELS
from air_jax.models.layers.heads import HEADS
from air_jax.optimize import FIELDS
from air_jax.runtime.files import replace_text
from air_jax.training.optimizer import SCHEDULES
from air_jax.training.pair_loss import TrainingTerms
from air_jax.transforms.intensity import WINDOWS

FILE_NAME = "config.json"
ALL_STEPS = -1  # num_segmenter_steps of a run that trains nothing but the segmenter
_POSITIVE_KEYS = {
    "num_train_steps",
    "batch_size",
    "learning_rate",
    "log_every",
    "eval_every",
    "eval.num_pairs",
    "eval.batch_size",
}
_NOT_NEGATIVE_KEYS = {  # of models
    "integration_steps",
    "num_classes",
    "force_sigma",
    "total_sigma",
    "reach",
    "least_volume",
    "volume_preservation",
}
# They change how a run is computed, not what, or what comes after training: a run may be resumed with other values.
_FREE_KEYS = {"compilation_cache", "streaming", "dataset.cache"}
_FREE_KEYS |= {f"refine.{key}" for key in ("field", "num_steps", "update_sigma", "total_sigma", "overlap")}
# Weights in the section `loss` of what training alone knows: labels, and the other direction.
_TRAINING_LOSSES = ("soft_dice", "segmentation", *CONSISTENCIES)
_REQUIRED_KEYS = _POSITIVE_KEYS | {
    "seed",
    "compilation_cache",
    "streaming",
    "schedule",
    "warmup_steps",
    "clip_norm",
    "num_segmenter_steps",
    "eval.pairs_seed",
    "dataset.name",
    "dataset.normalization",
    "dataset.train_fraction",
    "dataset.num_validation",
    "dataset.pairs",
    "augmentation.flip",
    "augmentation.rotation",
    "augmentation.scale",
    "augmentation.translation",
    "augmentation.elastic",
    "augmentation.elastic_spacing",
    "deformation.amplitude",
    "deformation.spacing",
    "model.name",
    "loss.similarity",
    "refine.field",
    "refine.num_steps",
    "refine.update_sigma",
    "refine.total_sigma",
    "refine.overlap",
}


def check(config: ConfigDict) -> None:
    """Raises `UserError` with one line that names the key when a config cannot be run."""

    def require(condition: bool, key: str, what: str) -> None:
        if not condition:
            raise UserError(f"--config.{key}={_get(config, key)!r}: {what}")

    missing = sorted(_REQUIRED_KEYS - _flat(_plain(config)).keys())
    if missing:
        raise UserError(
            f"the config lacks {', '.join(missing)}; configs/mnist.py has every key; "
            "a run of an older version must be trained again"
        )
    for key in sorted(_POSITIVE_KEYS):
        require(_get(config, key) > 0, key, "must be positive")
    require(config.dataset.pairs != "", "dataset.pairs", "must be all, atlas, frames or the path of a list")
    require(config.dataset.name != "", "dataset.name", "give the path of your images, a folder or a stack (.npz)")
    for key in ("seed", "eval.pairs_seed", "warmup_steps", "clip_norm"):
        require(_get(config, key) >= 0, key, "must not be negative")
    for key in ("refine.num_steps", "refine.update_sigma", "refine.total_sigma", "refine.overlap"):
        require(_get(config, key) >= 0, key, "must not be negative")
    require(
        config.eval_every % config.log_every == 0, "eval_every", f"must be a multiple of log_every ({config.log_every})"
    )
    _check_segmenter_steps(config, require)
    require(config.schedule in SCHEDULES, "schedule", f"must be one of {', '.join(SCHEDULES)}")
    require(config.dataset.normalization in WINDOWS, "dataset.normalization", f"must be one of {', '.join(WINDOWS)}")
    require(0 < config.dataset.train_fraction < 1, "dataset.train_fraction", "must lie between 0 and 1")
    require(
        config.dataset.num_validation >= 2,
        "dataset.num_validation",
        "must be at least 2: a pair chooses the checkpoint",
    )
    require(config.deformation.amplitude >= 0, "deformation.amplitude", "must not be negative")
    require(config.deformation.spacing > 0, "deformation.spacing", "must be positive")
    for key in ("rotation", "scale", "translation", "elastic"):
        require(config.augmentation[key] >= 0, f"augmentation.{key}", "must not be negative")
    require(config.augmentation.scale < 1, "augmentation.scale", "must be less than 1")
    require(config.augmentation.elastic_spacing > 0, "augmentation.elastic_spacing", "must be positive")
    smooth = 4 * config.augmentation.elastic <= config.augmentation.elastic_spacing
    require(smooth, "augmentation.elastic", "must be a quarter of augmentation.elastic_spacing at most, or it folds")
    require(config.refine.field in FIELDS, "refine.field", f"must be one of {', '.join(FIELDS)}")
    _check_loss(config, require)
    require(config.model.name in MODELS, "model.name", f"must be one of {', '.join(MODELS)}")
    fields = {field.name for field in dataclasses.fields(MODELS[config.model.name])}
    for key in set(config.model) - {"name"}:
        require(key in fields, f"model.{key}", f"the model {config.model.name!r} has no such option")
    _check_model(config.model, require)


def _check_segmenter_steps(config: ConfigDict, require: Any) -> None:
    """Checks how the steps are shared out, and that the warm-up fits into both parts."""
    key, count, total = "num_segmenter_steps", config.num_segmenter_steps, config.num_train_steps
    fits = config.model.get("num_classes") or not count
    require(bool(fits), key, "must be 0 where the model has no segmenter (model.num_classes)")
    require(-1 <= count < total, key, f"must be less than num_train_steps ({total}), or -1 for all of them")
    whole = count % config.log_every == 0 or count == ALL_STEPS
    require(whole, key, f"must be a multiple of log_every ({config.log_every})")
    shortest = min(count, total - count) if count > 0 else total
    which = "num_segmenter_steps and the steps after them" if count > 0 else "num_train_steps"
    require(config.warmup_steps < shortest, "warmup_steps", f"must be less than {which} ({shortest})")


def _check_loss(config: ConfigDict, require: Any) -> None:
    require(config.loss.similarity in SIMILARITIES, "loss.similarity", f"must be one of {', '.join(SIMILARITIES)}")
    weights = (*SIMILARITIES, *REGULARIZERS, *_TRAINING_LOSSES)
    for key in set(config.loss) - {"similarity", "window", "edges"}:
        require(key in weights, f"loss.{key}", f"no such loss; there are {', '.join(weights)}")
        require(config.loss[key] >= 0, f"loss.{key}", "must not be negative")
        other = key != config.loss.similarity or not config.loss[key]
        require(other, f"loss.{key}", "is loss.similarity already, with weight 1; set the others' weights against it")
    if window := config.loss.get("window"):
        require(window > 0 and window % 2 == 1, "loss.window", "must be odd and positive")
        try:
            objective(config)
        except ValueError:
            require(False, "loss.window", f"{config.loss.similarity} has no windows; set it to 0")
    if config.deformation.amplitude:
        for key in ("soft_dice", "segmentation"):
            require(not config.loss.get(key), f"loss.{key}", "artificially deformed images have no labels")
    segments = bool(config.model.get("num_classes"))
    require(
        bool(config.loss.get("segmentation")) == segments,
        "loss.segmentation",
        "must be positive where model.num_classes is, and 0 where the model has no classes",
    )


def _check_model(model: ConfigDict, require: Any) -> None:
    """Checks the options that models share under the same names, and what ties them together."""
    for key, value in model.items():
        numbers = value if isinstance(value, (tuple, list)) else [value]
        if key == "dropout":
            require(0 <= value < 1, "model.dropout", "must be at least 0 and less than 1")
        elif key in _NOT_NEGATIVE_KEYS:
            require(min(numbers, default=0) >= 0, f"model.{key}", "must not be negative")
        elif all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
            require(len(numbers) > 0 and min(numbers) > 0, f"model.{key}", "must be positive")
    if "head" in model:
        require(model.head in HEADS, "model.head", f"must be one of {', '.join(HEADS)}")
    if "dtype" in model:
        require(model.dtype in ("float32", "bfloat16"), "model.dtype", "must be float32 or bfloat16")
    if "num_heads" in model and model.get("head_size") is None:
        whole = model.width % model.num_heads == 0
        also = ", or set model.head_size" if "head_size" in model else ""
        require(whole, "model.width", f"must be a multiple of model.num_heads ({model.num_heads}){also}")
    forced = model.get("forces", False)
    edges = forced or not model.get("edges")
    require(edges, "model.edges", "forces of edges need model.forces; loss.edges lets training look at edges without")
    classes = forced or not model.get("num_classes")
    require(classes, "model.num_classes", "forces of classes need model.forces")
    kept = model.get("volume_preservation", 0)
    require(kept < 2, "model.volume_preservation", "must be less than 2, from where on steps do not come to rest")
    require(forced or not kept, "model.volume_preservation", "needs model.forces, which compress")
    if "reach" in model:
        require(len(model.reach) == 2, "model.reach", "must be two numbers: for intensities, and for classes")
    if "stride" in model:
        for key in ("patch_size", "spacing", "num_steps", "downsampling"):
            numbers = model.get(key)
            fits = numbers is None or len(numbers) == len(model.stride)
            require(fits, f"model.{key}", "must have a number for each of model.stride")
        for stride, patch_size, spacing in zip(model.stride, model.patch_size, model.spacing, strict=True):
            odd = patch_size % stride == 0 and patch_size // stride % 2 == 1
            require(odd, "model.patch_size", f"must be odd multiples of model.stride {tuple(model.stride)}")
            require(stride % spacing == 0, "model.spacing", f"must be divisors of model.stride {tuple(model.stride)}")


def build_model(config: ConfigDict) -> nn.Module:
    """The Flax module that the config's `model` section describes."""
    # Tuples, because what comes back from JSON as a list would make the module unhashable.
    options = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.model.items() if key != "name"
    }
    return MODELS[config.model.name](**options)


def segmenter_steps(config: ConfigDict) -> float:
    """How many of the steps, the first, train the model's segmenter alone: `math.inf` for all."""
    return math.inf if config.num_segmenter_steps == ALL_STEPS else config.num_segmenter_steps


def deformation(config: ConfigDict) -> Deformation | None:
    """The artificial deformation that the config's `deformation` section describes; None for an amplitude of 0."""
    return Deformation(**config.deformation) if config.deformation.amplitude else None


def augmentation(config: ConfigDict) -> Augmentation | None:
    """What the config's `augmentation` section describes; None where nothing moves."""
    described = Augmentation(**config.augmentation)
    return described if described.moves() else None


def objective(config: ConfigDict, **changes: float) -> Objective:
    """The objective that training and refinement share, by the config's `loss` section and these changes to it."""
    shared = {key: value for key, value in config.loss.items() if key not in ("edges", *_TRAINING_LOSSES)}
    shared["window"] = shared.get("window") or None
    return make_objective(**(shared | changes))


def training_terms(config: ConfigDict, train: Images) -> TrainingTerms:
    """What else the config's `loss` section asks for, for these training images.

    Raises:
      UserError: overlap is asked for, and there are no segmentations.
    """
    consistencies = tuple((name, weight) for name in CONSISTENCIES if (weight := config.loss.get(name)))
    weights = {name: weight for name in ("soft_dice", "segmentation") if (weight := config.loss.get(name))}
    labels = label_ids_of(train) if weights else ()
    if weights and not labels:
        name, weight = next(iter(weights.items()))
        raise UserError(
            f"--config.loss.{name}={weight}: the set has no segmentations; give --config.dataset.labels, or 0"
        )
    num_classes = config.model.get("num_classes")
    if num_classes and num_classes != 1 + len(labels):
        raise UserError(
            f"--config.model.num_classes={num_classes}: the training set has {len(labels)} labels; "
            f"with the background there are {1 + len(labels)} classes"
        )
    return TrainingTerms(**weights, labels=labels, consistencies=consistencies, edges=config.loss.get("edges", False))


def write(config: ConfigDict, image_shape: tuple[int, ...], workdir: Path) -> None:
    """Writes `config.json`: the config and, under `image_shape`, the `(*S, C)` of the images the model is made for."""
    content = {**_plain(config), "image_shape": list(image_shape)}
    replace_text(workdir / FILE_NAME, json.dumps(content, indent=2) + "\n")


def read(workdir: Path) -> tuple[ConfigDict, tuple[int, ...]]:
    """Reads `config.json` back: the config and the image shape.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = Path(workdir) / FILE_NAME
    try:
        content = json.loads(path.read_text())
        image_shape = tuple(content.pop("image_shape"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; is {workdir} the workdir of a run?") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); restore it from a copy, or train again in another workdir"
        ) from error
    return ConfigDict(content), image_shape


def check_same_run(config: ConfigDict, workdir: Path) -> None:
    """Raises `UserError` when `workdir` holds a run of another config.

    Keys that do not change what is computed may differ; `num_train_steps` too, unless the learning rate depends on it.
    """
    if not (workdir / FILE_NAME).exists():
        return
    old, new = _flat(_plain(read(workdir)[0])), _flat(_plain(config))
    free = _FREE_KEYS | ({"num_train_steps"} if config.schedule == "constant" else set())
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in free)
    if keys:
        differences = ", ".join(f"{key} ({old.get(key)!r} there, {new.get(key)!r} now)" for key in keys)
        raise UserError(
            f"{workdir} holds a run of another config: {differences}; choose another --workdir, or the same values"
        )


def check_same_images(image_shape: tuple[int, ...], workdir: Path) -> None:
    """Raises `UserError` when `workdir` holds a run on images of another shape `(*S, C)`."""
    if (workdir / FILE_NAME).exists() and (old := read(workdir)[1]) != image_shape:
        raise UserError(
            f"{workdir} holds a run on images {list(old)}, not {list(image_shape)}; choose another --workdir"
        )


def _plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON would give it back: plain dicts, lists for tuples."""
    return json.loads(config.to_json_best_effort())


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _get(config: ConfigDict, path: str) -> Any:
    for key in path.split("."):
        config = config[key]
    return config
