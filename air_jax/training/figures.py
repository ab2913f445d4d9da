"""The figures of a run: curves, test pairs, attention, segmentations."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from air_jax import visualize
from air_jax.data import Images
from air_jax.data.pairs import Pair, gather, unit_pair
from air_jax.models import MatchingAiR
from air_jax.models.layers.matching import attention_matrix
from air_jax.registration import Registration
from air_jax.training.recipe import TrainingRecipe
from air_jax.training.scoring import pair_keys
from air_jax.training.tasks import Task
from air_jax.transforms import shrink
from air_jax.workdir import log

NUM_DRAWN_PAIRS = 6


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
    figures = _curves(workdir)
    if test.images.shape[-1] in (1, 3):
        pair, count = _drawn_pair(test, pairs, recipe)
        title = f"{Path(recipe.dataset['name']).name}: the first {count} test pairs, step {registration.step:,}"
        figures |= _pair_figures(registration, pair, title)
    _save(figures, workdir)


def draw_segmentations(
    task: Task, params: object, test: Images, pairs: np.ndarray, recipe: TrainingRecipe, workdir: Path
) -> None:
    """Writes `figures/*.png` of a segmenter's run: curves, and images with their known and found segmentations."""
    figures = _curves(workdir)
    if test.images.shape[-1] in (1, 3):
        pair, count = _drawn_pair(test, pairs, recipe)
        found, _ = task.predict(params, pair.fixed, pair.moving)
        images, known, found = (np.asarray(array) for array in (pair.fixed, pair.segmentations()[0], found))
        if found.ndim == 4:
            images, known, found = _middle(images), _middle(known), _middle(found)
        title = f"{Path(recipe.dataset['name']).name}: {count} test images"
        figures["segmentation"] = visualize.segmentation_figure(images, known, found, title)
    _save(figures, workdir)


def _curves(workdir: Path) -> dict[str, Figure]:
    lines = log.read(workdir)
    return {"curves": visualize.curves_figure(lines)} if lines else {}


def _drawn_pair(test: Images, pairs: np.ndarray, recipe: TrainingRecipe) -> tuple[Pair, int]:
    """The pairs that are drawn, in [0, 1], and their number."""
    # All are registered at once, and no larger batch is known to fit the memory.
    chosen = pairs[: min(NUM_DRAWN_PAIRS, recipe.evaluation.batch_size)]
    keys = pair_keys(recipe.evaluation.pairs_seed, len(test), chosen)
    pair, _ = unit_pair(jax.tree.map(jnp.asarray, gather(test, *chosen.T)), recipe.deformation, keys)
    return pair, len(chosen)


def _save(figures: dict[str, Figure], workdir: Path) -> None:
    (workdir / "figures").mkdir(exist_ok=True)
    paths = [workdir / "figures" / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=150)
    print(f"figures: {', '.join(map(str, paths))}", flush=True)


def _pair_figures(registration: Registration, pair: Pair, title: str) -> dict[str, Figure]:
    """`registration`, and `attention` where a 2-D model has and keeps attention weights."""
    fixed, moving = np.asarray(pair.fixed), np.asarray(pair.moving)
    result = jax.device_get(registration.register(fixed, moving, normalized=True))
    drawn = fixed, moving, result.warped, result.displacement
    is_volume = result.displacement.shape[-1] == 3
    if is_volume:
        drawn = _middle(fixed), _middle(moving), _middle(result.warped), _middle(result.displacement)[..., 1:]
    figures = {"registration": visualize.registration_figure(*drawn, title)}
    if not is_volume and (attention := attention_of_run(registration.model, result.out, fixed, moving)):
        figures["attention"] = attention
    return figures


def attention_of_run(model: Any, out: dict[str, Any], fixed: np.ndarray, moving: np.ndarray) -> Figure | None:
    """Draws the attention of the first pair.

    Args:
      model: the module.
      out: intermediates of the model for the pairs.
      fixed, moving: `[B, H, W, C]` in [0, 1].

    Returns:
      The figure; None for models without attention, or that keep no weights.
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


def _middle(volumes: np.ndarray) -> np.ndarray:
    """`[B, D, H, W, ...]` to its middle slices `[B, H, W, ...]`."""
    return volumes[:, volumes.shape[1] // 2]
