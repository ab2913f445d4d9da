"""The figures of a run: curves, pairs, attention, segmentations."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from air_jax import metrics, visualize
from air_jax.data import Images
from air_jax.data.pairs import Pair, gather, unit_pair
from air_jax.io.access import writing
from air_jax.models import MatchingAiR
from air_jax.models.layers.matching import attention_matrix
from air_jax.registration import Registration, from_recipe
from air_jax.training.recipe import TrainingRecipe
from air_jax.training.scoring import pair_keys
from air_jax.training.tasks import Task
from air_jax.transforms import shrink, warp
from air_jax.workdir import log
from air_jax.workdir.recipe import InferenceRecipe

NUM_DRAWN_PAIRS = 6
NUM_WATCHED_PAIRS = 3  # of a run that is watched; drawing them delays the next step


def draw_registrations(
    registration: Registration, test: Images, pairs: np.ndarray, recipe: TrainingRecipe, workdir: Path
) -> None:
    """Writes `figures/*.png` of a registration's run; of volumes, their middle slices.

    Args:
      registration: the model.
      test: images of the test part. Images of other than 1 or 3 channels are not drawn.
      pairs: `[n, 2]`, of which the first are drawn.
      recipe: of the run.
      workdir: folder of the run.
    """
    _save(_curves(workdir) | registration_figures(registration, test, pairs[:NUM_DRAWN_PAIRS], recipe), workdir)


def draw_segmentations(
    task: Task, params: object, test: Images, pairs: np.ndarray, recipe: TrainingRecipe, workdir: Path
) -> None:
    """Writes `figures/*.png` of a segmenter's run: curves, and images with their known and found segmentations."""
    _save(_curves(workdir) | segmentation_figures(task, params, test, pairs[:NUM_DRAWN_PAIRS], recipe), workdir)


def registration_figures(
    registration: Registration, images: Images, pairs: np.ndarray, recipe: TrainingRecipe
) -> dict[str, Figure]:
    """Draws pairs `[n, 2]` of `images`: `registration`, and `attention` where a 2-D model keeps its weights."""
    if not can_be_drawn(images):
        return {}
    drawn = register_pairs(registration, images, pairs, recipe)
    title = f"{_name(recipe)}: {len(drawn.fixed)} pairs, step {registration.step:,}"
    figures = {"registration": visualize.registration_figure(*drawn.plane(), title, label_dice=label_dice(drawn))}
    if drawn.fixed.ndim == 4 and (
        attention := attention_of_run(registration.model, drawn.out, drawn.fixed, drawn.moving)
    ):
        figures["attention"] = attention
    return figures


def segmentation_figures(
    task: Task, params: object, images: Images, pairs: np.ndarray, recipe: TrainingRecipe
) -> dict[str, Figure]:
    """Draws the fixed images of pairs `[n, 2]` with their known and found segmentations."""
    if not can_be_drawn(images):
        return {}
    drawn = segment_pairs(task, params, images, pairs, recipe)
    return {"segmentation": visualize.segmentation_figure(*drawn, f"{_name(recipe)}: {len(drawn[0])} images")}


def watched_figures(
    inference: InferenceRecipe,
    task: Task,
    validation: Images,
    pairs: np.ndarray,
    recipe: TrainingRecipe,
    params: Any,
    step: int,
) -> dict[str, Figure]:
    """Draws the first pairs of the validation part, for a watch.

    Args:
      inference, task, recipe: of the run.
      validation: images.
      pairs: `[n, 2]`, of which the first are drawn.
      params: the model's parameters at `step`, on any devices.
      step: number of steps taken.
    """
    params, pairs = jax.device_put(params, jax.local_devices()[0]), pairs[:NUM_WATCHED_PAIRS]
    if not recipe.registers:
        return segmentation_figures(task, params, validation, pairs, recipe)
    registration = from_recipe(inference, params, image_shape=validation.images.shape[1:], step=step)
    return registration_figures(registration, validation, pairs, recipe)


class RegisteredPairs(NamedTuple):
    """Pairs that are drawn.

    Attributes:
      fixed, moving, warped: `[n, *S, C]` in [0, 1].
      displacement: `[n, *S, N]` in voxels.
      out: the model's intermediates, of these pairs and perhaps more.
      segmentations: of the fixed and of the moving images, each `[n, *S]`; None where there are none.
    """

    fixed: np.ndarray
    moving: np.ndarray
    warped: np.ndarray
    displacement: np.ndarray
    out: dict[str, Any]
    segmentations: tuple[np.ndarray, np.ndarray] | None = None

    def plane(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Returns the arrays but `out`; of volumes, their middle slices."""
        if self.displacement.shape[-1] == 2:
            return self.fixed, self.moving, self.warped, self.displacement
        return _middle(self.fixed), _middle(self.moving), _middle(self.warped), _middle(self.displacement)[..., 1:]


def register_pairs(
    registration: Registration, images: Images, pairs: np.ndarray, recipe: TrainingRecipe
) -> RegisteredPairs:
    """Registers pairs `[n, 2]`, at most `NUM_DRAWN_PAIRS`."""
    pair, count = _pair(images, pairs, recipe)
    fixed, moving = np.asarray(pair.fixed), np.asarray(pair.moving)
    result = jax.device_get(registration.register(fixed, moving, normalized=True))
    warped, displacement = result.warped[:count], result.displacement[:count]
    drawn = RegisteredPairs(fixed[:count], moving[:count], warped, displacement, result.out)
    if pair.fixed_segmentation is None:
        return drawn
    fixed_labels, moving_labels = (np.asarray(side)[:count] for side in pair.segmentations())
    return drawn._replace(segmentations=(fixed_labels, moving_labels))


def label_dice(drawn: RegisteredPairs) -> np.ndarray | None:
    """Computes the mean Dice `[n]` of each pair's labels; None for pairs without labels."""
    if drawn.segmentations is None:
        return None
    fixed, moving = drawn.segmentations
    ids = [int(label) for label in np.union1d(fixed, moving) if label]
    if not ids:
        return None
    warped = warp(jnp.asarray(moving), jnp.asarray(drawn.displacement), order=0)
    return np.asarray(metrics.label_mean(metrics.label_dice(jnp.asarray(fixed), warped, ids)))


def segment_pairs(
    task: Task, params: object, images: Images, pairs: np.ndarray, recipe: TrainingRecipe
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments the fixed images of pairs `[n, 2]`: images, known and found segmentations; of volumes, middle slices."""
    pair, count = _pair(images, pairs, recipe)
    found, _ = task.predict(params, pair.fixed, pair.moving)
    image, known, found = (np.asarray(array)[:count] for array in (pair.fixed, pair.segmentations()[0], found))
    return (_middle(image), _middle(known), _middle(found)) if found.ndim == 4 else (image, known, found)


def can_be_drawn(images: Images) -> bool:
    """Returns whether the images are grey or have three colours."""
    return images.images.shape[-1] in (1, 3)


def _pair(images: Images, pairs: np.ndarray, recipe: TrainingRecipe) -> tuple[Pair, int]:
    """The pairs in [0, 1], repeated to a number that is always the same, so that one program serves all; and how many
    of them count. All are registered at once, and no larger batch than the evaluation's is known to fit the memory.
    """
    size = min(NUM_DRAWN_PAIRS, recipe.evaluation.batch_size)
    chosen = np.resize(pairs[:size], (size, 2))
    keys = pair_keys(recipe.evaluation.pairs_seed, len(images), chosen)
    pair, _ = unit_pair(jax.tree.map(jnp.asarray, gather(images, *chosen.T)), recipe.deformation, keys)
    return pair, min(size, len(pairs))


def _middle(volumes: np.ndarray) -> np.ndarray:
    """`[B, D, H, W, ...]` to its middle slices `[B, H, W, ...]`."""
    return volumes[:, volumes.shape[1] // 2]


def _name(recipe: TrainingRecipe) -> str:
    return Path(recipe.dataset["name"]).name


def _curves(workdir: Path) -> dict[str, Figure]:
    lines = log.read(workdir)
    return {"curves": visualize.curves_figure(lines)} if lines else {}


def _save(figures: dict[str, Figure], workdir: Path) -> None:
    (workdir / "figures").mkdir(exist_ok=True)
    paths = [workdir / "figures" / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        with writing(path, ".png") as partial:
            figure.savefig(partial, dpi=150)
    print(f"figures: {', '.join(map(str, paths))}", flush=True)


def attention_of_run(model: Any, out: dict[str, Any], fixed: np.ndarray, moving: np.ndarray) -> Figure | None:
    """Draws the attention of the first pair.

    Args:
      model: the module.
      out: intermediates of the model for the pairs.
      fixed, moving: `[B, H, W, C]` in [0, 1].

    Returns:
      The figure; None for models without attention, that keep no weights, or that match features (`MatchingUNet`).
    """
    if isinstance(model, MatchingAiR):  # the first level, whose windows reach farthest
        window, read, from_fixed = out["attention"][0][0], out["read"][0], True
        weights = attention_matrix(window, model.radius[0])
        token_grid, patch_size = window.shape[:2], (model.stride[0],) * 2
    else:
        blocks = out.get("decoder", {})
        weights = blocks.get(f"block_{len(blocks) - 1}", {}).get("cross_attention")
        if weights is None:
            return None
        read, weights, from_fixed = out.get("read", moving), weights[0], False  # on the last level's grid
        token_grid, patch_size = out["token_grid"], out["patch_size"]
    shrunk = np.asarray(shrink(jnp.asarray(fixed[:1]), read.shape[1:-1]))[0]
    options = dict(token_grid=token_grid, patch_size=patch_size, from_fixed=from_fixed)
    return visualize.attention_figure(shrunk, read[0], weights, **options)
