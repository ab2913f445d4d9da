"""Loading of a trained registration from the folder of its run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax

from air_jax.errors import UserError
from air_jax.optimize import FIELDS, DenseField
from air_jax.registration.registration import Registration

FOLDING_WEIGHT = 5.0  # of the penalty in refinement, where the training had none and the field can fold


def load(workdir: str | Path) -> Registration:
    """Loads the best checkpoint of a finished or interrupted run. It needs only the run's folder.

    Args:
      workdir: the folder.

    Returns:
      The registration, with its parameters on the default device.

    Raises:
      UserError: the folder is not that of a run, it cannot be read, or the extra 'train' is not installed.
    """
    try:  # here, so that `import air_jax` stays light
        from air_jax.workdir import config as configs
        from air_jax.workdir.checkpoint import restore_best_params
    except ModuleNotFoundError as error:
        raise UserError(f"air_jax.load needs {error.name}; install air_jax with its extra 'train'") from error

    workdir = Path(workdir)
    read: tuple[Any, tuple[int, ...]] = configs.read(workdir)
    config, image_shape = read
    configs.check(config)
    step, params = restore_best_params(workdir / "checkpoints")
    field, changes = FIELDS[config.refine.field](), {}
    if isinstance(field, DenseField):
        field = DenseField(config.refine.update_sigma, config.refine.total_sigma)
    elif not config.loss.get("folding"):
        changes["folding"] = FOLDING_WEIGHT
    recipe = SimpleNamespace(
        model=configs.build_model(config),
        objective=configs.objective(config, **changes),
        field=field,
        edges=config.loss.get("edges", False),
        overlap_weight=config.refine.overlap if config.model.get("num_classes") else 0.0,
        normalization=config.dataset.normalization,
    )
    return _from_recipe(recipe, params, image_shape, step)


def _from_recipe(recipe: Any, params: Any, image_shape: tuple[int, ...], step: int) -> Registration:
    return Registration(
        recipe.model,
        jax.device_put(params),
        tuple(image_shape),
        int(step),
        recipe.objective,
        recipe.field,
        edges=recipe.edges,
        overlap_weight=recipe.overlap_weight,
        normalization=recipe.normalization,
    )
