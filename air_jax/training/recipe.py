"""A config parsed for training: what a run needs besides the recipe of inference."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from air_jax.checks import LARGEST_SEED
from air_jax.data import Images, label_ids_of
from air_jax.data.augmentation import Augmentation
from air_jax.data.deformation import Deformation
from air_jax.data.synthetic.contrast import Contrast
from air_jax.data.synthetic.pairs import Synthesis, synthesize
from air_jax.errors import UserError
from air_jax.losses import CONSISTENCIES, Objective
from air_jax.training.optimizer import SCHEDULES
from air_jax.training.pair_loss import TrainingTerms
from air_jax.training.steps import Synthesize
from air_jax.transforms.intensity import WINDOWS
from air_jax.workdir.defaults import Config
from air_jax.workdir.recipe import (
    is_segmenter,
    naming_key,
    one_of,
    require,
    require_integer,
    require_number,
    training_objective,
)


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """Steps of a run.

    Attributes:
      num_train_steps: all steps; 0 trains nothing.
      batch_size: pairs per step, over all devices.
      log_every: steps per dispatch and per line of the log.
      eval_every: steps between validations, a multiple of `log_every`.
    """

    num_train_steps: int
    batch_size: int
    log_every: int
    eval_every: int


@dataclasses.dataclass(frozen=True)
class OptimizerRecipe:
    """Arguments of `air_jax.training.optimizer.make_optimizer`."""

    learning_rate: float
    schedule: str
    warmup_steps: int
    num_train_steps: int
    clip_norm: float


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """Pairs that are scored.

    Attributes:
      num_pairs: most pairs in each list.
      pairs_seed: seed of the lists and of artificial deformations.
      batch_size: pairs at once.
      refine_steps: steps of instance optimisation with which test pairs are scored as well; 0 for none.
      artificial: True if fixed images are moving ones, artificially deformed.
    """

    num_pairs: int
    pairs_seed: int
    batch_size: int
    refine_steps: int
    artificial: bool


@dataclasses.dataclass(frozen=True)
class TrainingRecipe:
    """Everything about a run that training and scoring need besides `InferenceRecipe`.

    Attributes:
      seed: seed of parameters, pairs, augmentation and dropout.
      steps, optimizer, evaluation: see their classes.
      dataset: arguments of `air_jax.data.load_dataset`.
      segmenter_workdir: run of the segmenter inside the model; "" for none.
      objective: of the training; None for a segmenter's run.
      terms: weights of the loss besides the objective.
      augmentation: None where nothing moves.
      deformation: artificial deformation that makes the fixed images; None for real pairs.
      synthesis: random deformations and contrasts of the segmentations, in training only; None for real images.
      streaming: whether images come from the host; None lets the run decide.
      sharded_jit: whether XLA partitions the step, see `air_jax.runtime.parallel.sharded_data_parallel`.
      watch: key of `air_jax.training.watch.WATCHES`.
    """

    seed: int
    steps: StepPlan
    optimizer: OptimizerRecipe
    evaluation: EvaluationPlan
    dataset: dict[str, Any]
    segmenter_workdir: str
    objective: Objective | None
    terms: TrainingTerms
    augmentation: Augmentation | None
    deformation: Deformation | None
    synthesis: Synthesis | None
    streaming: bool | None
    sharded_jit: bool
    watch: str

    @property
    def registers(self) -> bool:
        """True for the run of a registration model, False for that of a segmenter."""
        return self.objective is not None


def training_recipe(config: Config) -> TrainingRecipe:
    """Parses a run's config.

    Args:
      config: every key, see `air_jax.workdir.defaults`.

    Raises:
      UserError: a key is missing, unknown, or has a value that it cannot take; one line names it.
    """
    registers = not is_segmenter(config)
    deformation = _deformation(config) if registers else None
    refine_steps = 0
    if registers:
        require_integer(config, "refine.num_steps", 0)
        refine_steps = config.refine.num_steps
    _check_dataset(config)
    return TrainingRecipe(
        seed=_seed(config, "seed"),
        steps=_steps(config),
        optimizer=_optimizer(config),
        evaluation=_evaluation(config, refine_steps, deformation is not None),
        dataset=config.dataset.to_dict(),
        segmenter_workdir=config.model.get("segmenter") or "",
        objective=_objective(config) if registers else None,
        terms=_terms(config, deformation) if registers else TrainingTerms(),
        augmentation=_augmentation(config),
        deformation=deformation,
        synthesis=_synthesis(config, deformation) if registers else None,
        streaming=config.streaming,
        sharded_jit=config.sharded_jit,
        watch=config.watch,
    )


def with_label_ids(terms: TrainingTerms, train: Images) -> TrainingTerms:
    """The terms for these training images, with their label ids where a term needs them.

    Raises:
      UserError: overlap is asked for, and there are no segmentations.
    """
    if not terms.soft_dice:
        return terms
    label_ids = label_ids_of(train)
    if not label_ids:
        raise UserError(
            f"--config.loss.soft_dice={terms.soft_dice}: the set has no segmentations; "
            "give --config.dataset.labels, or 0"
        )
    return terms._replace(label_ids=label_ids)


def synthesizer(synthesis: Synthesis | None, train: Images) -> Synthesize | None:
    """The function that makes pairs of these training images' segmentations; None without a synthesis.

    Raises:
      UserError: there are no segmentations.
    """
    if synthesis is None:
        return None
    label_ids = label_ids_of(train)
    if not label_ids:
        raise UserError(
            f"--config.synthesis.velocity={synthesis.velocity}: the set has no segmentations to make images of; "
            "give --config.dataset.labels, or 0"
        )
    return partial(synthesize, label_ids=label_ids, synthesis=synthesis)


def classes_of(train: Images, num_classes: int) -> tuple[int, ...]:
    """The label ids of a segmenter's classes 1, 2, ..., for these training images.

    Raises:
      UserError: there are no segmentations, or not one label id for each class but the background.
    """
    label_ids = label_ids_of(train)
    if not label_ids:
        raise UserError("a segmenter needs segmentations: give --config.dataset.labels, or a stack with `label`")
    if num_classes != 1 + len(label_ids):
        raise UserError(
            f"--config.model.num_classes={num_classes}: the training set has {len(label_ids)} label ids; "
            f"with the background there are {1 + len(label_ids)} classes"
        )
    return label_ids


def _seed(config: Config, key: str) -> int:
    require_integer(config, key, 0, LARGEST_SEED)
    return config[key] if key == "seed" else config.eval.pairs_seed


def _steps(config: Config) -> StepPlan:
    require_integer(config, "num_train_steps", 0)
    for key in ("batch_size", "log_every", "eval_every"):
        require_integer(config, key, 1)
    whole = config.eval_every % config.log_every == 0
    require(config, "eval_every", whole, f"must be a multiple of log_every ({config.log_every})")
    return StepPlan(config.num_train_steps, config.batch_size, config.log_every, config.eval_every)


def _optimizer(config: Config) -> OptimizerRecipe:
    require_number(config, "learning_rate", positive=True)
    require_integer(config, "warmup_steps", 0)
    require_number(config, "clip_norm")
    require(config, "schedule", config.schedule in SCHEDULES, one_of(SCHEDULES))
    total = config.num_train_steps
    fits = config.warmup_steps < max(total, 1)
    require(config, "warmup_steps", fits, f"must be less than num_train_steps ({total})")
    return OptimizerRecipe(config.learning_rate, config.schedule, config.warmup_steps, total, config.clip_norm)


def _evaluation(config: Config, refine_steps: int, artificial: bool) -> EvaluationPlan:
    for key in ("eval.num_pairs", "eval.batch_size"):
        require_integer(config, key, 1)
    seed = _seed(config, "eval.pairs_seed")
    return EvaluationPlan(config.eval.num_pairs, seed, config.eval.batch_size, refine_steps, artificial)


def _check_dataset(config: Config) -> None:
    section = config.dataset
    require(config, "dataset.normalization", section.normalization in WINDOWS, one_of(WINDOWS))
    require(config, "dataset.name", section.name != "", "give the path of your images, a folder or a stack (.npz)")
    require(config, "dataset.pairs", section.pairs != "", "must be all, atlas, frames or the path of a list")
    fraction = section.train_fraction
    require(config, "dataset.train_fraction", 0 < fraction < 1, "must lie between 0 and 1")
    enough = section.num_validation >= 2
    require(config, "dataset.num_validation", enough, "must be at least 2: a pair chooses the checkpoint")


def _terms(config: Config, deformation: Deformation | None) -> TrainingTerms:
    no_labels = deformation is None or not config.loss.soft_dice
    require(config, "loss.soft_dice", no_labels, "artificially deformed images have no segmentations")
    known = config.synthesis.velocity and _augmentation(config) is None
    require(config, "loss.endpoint", known or not config.loss.endpoint, "needs synthesis.velocity and no augmentation")
    consistencies = tuple((name, weight) for name in CONSISTENCIES if (weight := config.loss[name]))
    return TrainingTerms(
        soft_dice=config.loss.soft_dice,
        endpoint=config.loss.endpoint,
        consistencies=consistencies,
        edges=bool(config.loss.edges),
    )


def _augmentation(config: Config) -> Augmentation | None:
    with naming_key("augmentation"):
        augmentation = Augmentation(**config.augmentation)
    return augmentation if augmentation.moves() else None


def _objective(config: Config) -> Objective:
    objective = training_objective(config)
    return objective if config.loss.train_similarity else dataclasses.replace(objective, similarity=_no_similarity)


def _no_similarity(fixed: jax.Array, warped: jax.Array, window: int | None = None) -> jax.Array:
    del warped, window  # the window of the similarity that only refinement uses
    return jnp.zeros(len(fixed))


def _synthesis(config: Config, deformation: Deformation | None) -> Synthesis | None:
    section = config.synthesis.to_dict()
    with naming_key("synthesis"):
        pairs = {name: section.pop(name) for name in ("velocity", "spacings")}
        synthesis = Synthesis(**pairs, contrast=Contrast(**section))
    one = deformation is None or not synthesis.velocity
    require(config, "synthesis.velocity", one, "is also a deformation; set deformation.amplitude to 0")
    return synthesis if synthesis.velocity else None


def _deformation(config: Config) -> Deformation | None:
    with naming_key("deformation"):
        deformation = Deformation(**config.deformation)
    return deformation if deformation.amplitude else None
