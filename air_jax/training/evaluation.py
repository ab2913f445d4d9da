"""The end of a run: scores, figures and the report of its best checkpoint."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from air_jax.data import Dataset, Images, label_ids_of, load_dataset
from air_jax.models import Segmenter
from air_jax.registration import Registration, from_recipe
from air_jax.runtime.files import replace_text
from air_jax.training import figures, scoring
from air_jax.training.recipe import TrainingRecipe, classes_of, training_recipe, with_label_ids
from air_jax.training.run_report import write_report
from air_jax.training.tasks import Refine, Task, registration_task, segmentation_task
from air_jax.visualize import run_panels
from air_jax.workdir import config as configs
from air_jax.workdir.checkpoint import restore_best_params
from air_jax.workdir.recipe import InferenceRecipe, inference_recipe


def evaluate(workdir: str | Path, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Scores the best checkpoint of a run on the test part; writes `eval.json`, figures and report; prints the table.

    Args:
      workdir: folder of the run.
      dataset: the run's normalised data set. Default: loaded as the run's config says.

    Returns:
      The scores, as in `eval.json`.

    Raises:
      UserError: the folder is not a run's workdir, or its data cannot be had.
    """
    workdir = Path(workdir).expanduser()
    saved = configs.read(workdir)
    recipe, inference = training_recipe(saved.config), inference_recipe(saved)
    step, params = restore_best_params(workdir / "checkpoints", identity=configs.model_identity(saved))
    dataset = dataset or load_dataset(**recipe.dataset)
    lists = scoring.pair_lists(dataset.test, recipe.evaluation)
    first = next(iter(lists.values()))
    refine, registration = None, None
    if recipe.registers:
        registration = from_recipe(inference, params, image_shape=saved.image_shape, step=step)
        if recipe.evaluation.refine_steps:
            refine = _refinement(registration, recipe.evaluation.refine_steps)
    task = task_of(recipe, inference, dataset, dataset.test, refine=refine)
    scorer = scoring.Scorer(task, recipe.evaluation, refine=refine)
    measured, each = scoring.score_lists(scorer, params, dataset.test, lists)
    report = {
        "checkpoint_step": step,
        "dataset": recipe.dataset["name"],
        "seed": recipe.seed,
        "pairs_seed": recipe.evaluation.pairs_seed,
    } | measured
    replace_text(workdir / "eval.json", json.dumps(report, indent=2) + "\n")
    print(scoring.table(report), flush=True)

    drawn = dataset.test, first, recipe
    if registration is None:
        figures.draw_segmentations(task, params, *drawn, workdir)
    else:
        figures.draw_registrations(registration, *drawn, workdir)
    draw = partial(_panels, registration, task, params, dataset.test, recipe)
    of_first = next(iter(each.values()))
    write_report(workdir, saved.config, recipe, report, of_first, dataset.test, first, draw)
    return report


def _panels(
    registration: Registration | None,
    task: Task,
    params: Any,
    test: Images,
    recipe: TrainingRecipe,
    pairs: np.ndarray,
) -> list[list[dict[str, Any]]]:
    """Panels of each of a few pairs `[n, 2]`; of volumes, their middle slices."""
    if registration is None:
        images = figures.segment_pairs(task, params, test, pairs, recipe)
        return [run_panels.segmentation_panels(*arrays) for arrays in zip(*images, strict=True)]
    images = figures.register_pairs(registration, test, pairs, recipe).plane()
    return [run_panels.registration_panels(*arrays) for arrays in zip(*images, strict=True)]


def task_of(
    recipe: TrainingRecipe,
    inference: InferenceRecipe,
    dataset: Dataset,
    scored: Images,
    *,
    refine: Refine | None = None,
) -> Task:
    """The task of a run, whose scores are for the part `scored` of the data set."""
    if not recipe.registers:
        assert isinstance(inference.model, Segmenter)
        return segmentation_task(inference.model, classes_of(dataset.train, inference.model.num_classes))
    assert recipe.objective is not None
    return registration_task(
        inference.model,
        recipe.objective,
        with_label_ids(recipe.terms, dataset.train),
        label_ids=() if recipe.deformation else label_ids_of(scored),  # an artificial image has no segmentation
        deformation=recipe.deformation,
        refine=refine,
    )


def _refinement(registration: Registration, num_steps: int) -> Refine:
    """The displacement after `num_steps` of instance optimisation."""

    def refine(fixed: jax.Array, moving: jax.Array, displacement: jax.Array) -> jax.Array:
        return registration.refine(fixed, moving, displacement, num_steps=num_steps).displacement

    return refine
