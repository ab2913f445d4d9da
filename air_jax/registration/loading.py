"""Loading of a trained registration from the folder of its run, or from that of a saved model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from air_jax.checks import check_path, require
from air_jax.errors import OptionError, UserError
from air_jax.registration.model_folder import CONFIG, is_model_folder, read_model
from air_jax.registration.registration import Registration

if TYPE_CHECKING:  # imported by `load`, so that `import air_jax` stays light
    from air_jax.workdir.recipe import InferenceRecipe


def load(workdir: str | Path) -> Registration:
    """Loads a saved model, or the best checkpoint of a finished or interrupted run. It needs only the folder.

    Args:
      workdir: folder of `Registration.save_pretrained`, or of a run. Only a run needs the extra 'train'.

    Returns:
      The registration, with its parameters on the default device.

    Raises:
      UserError: the folder is not that of a saved model or of a registration's run, it cannot be read, or the extra
        'train' is not installed.

    Examples:
      >>> registration = air_jax.load_pretrained("shapes-2d")
      >>> registration.save_pretrained("saved", name="mine", data="Random shapes.", license="apache-2.0")
      >>> air_jax.load("saved").normalization
      'percentile'
    """
    check_path(workdir=workdir)
    workdir = Path(workdir)
    if is_model_folder(workdir):
        settings, params = read_model(workdir)
        try:
            return Registration(params=jax.device_put(params), **settings)
        except OptionError as error:
            raise UserError(f"{workdir / CONFIG}: {error}; get the folder again") from error
    try:
        from air_jax.workdir import config as configs
        from air_jax.workdir.checkpoint import restore_best_params
        from air_jax.workdir.recipe import inference_recipe, is_segmenter, naming_key
    except ModuleNotFoundError as error:
        raise UserError(f"air_jax.load needs {error.name}; install air_jax with its extra 'train'") from error

    saved = configs.read(workdir)
    if is_segmenter(saved.config):
        raise UserError(f"{workdir}: is a segmenter's run; name it as --config.model.segmenter of a registration's run")
    recipe = inference_recipe(saved)
    step, params = restore_best_params(workdir / "checkpoints", identity=configs.model_identity(saved))
    with naming_key("dataset"):  # the registration checks its normalisation
        return from_recipe(recipe, params, image_shape=saved.image_shape, step=step)


def from_recipe(recipe: "InferenceRecipe", params: Any, *, image_shape: tuple[int, ...], step: int) -> Registration:
    """Makes the registration of a run.

    Args:
      recipe: the run's config, parsed.
      params: parameters of the recipe's model.
      image_shape: `(*S, C)` of the training images.
      step: training step of the parameters.

    Raises:
      OptionError: an argument has a value that it cannot take.

    Examples:
      >>> from air_jax.registration import from_recipe
      >>> from air_jax.workdir.recipe import InferenceRecipe
      >>> objective, field = air_jax.losses.make_objective("mse"), air_jax.optimize.DenseField()
      >>> recipe = InferenceRecipe(air_jax.AiR(), "range", objective, field)
      >>> from_recipe(recipe, {}, image_shape=(28, 28, 1), step=100).step
      100
    """
    known = all(hasattr(recipe, name) for name in ("model", "objective", "field", "normalization"))
    require(known, "recipe", recipe, "must be an InferenceRecipe")
    return Registration(
        recipe.model,
        jax.device_put(params),
        image_shape,
        step,
        recipe.objective,
        recipe.field,
        edges=recipe.edges,
        overlap_weight=recipe.overlap_weight,
        normalization=recipe.normalization,
    )
