"""The figures that a run leaves: curves, some test pairs, what attention looks at."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from air_jax import visualize
from air_jax.data import Dataset
from air_jax.data.deformation import draw_displacements
from air_jax.registration import Registration
from air_jax.training import scoring
from air_jax.transforms import warp
from air_jax.transforms.filters import shrink
from air_jax.transforms.intensity import to_unit_range
from air_jax.workdir import config as configs
from air_jax.workdir import log as run_log

NUM_DRAWN_PAIRS = 6


def draw(registration: Registration, dataset: Dataset, config: ConfigDict, workdir: Path) -> None:
    """Writes `figures/*.png`; of volumes, their middle slices. Images of other than 1 or 3 channels are not drawn."""
    figures = {}
    if lines := run_log.read(workdir):
        figures["curves"] = visualize.curves_figure(lines)
    if dataset.image_shape[-1] in (1, 3):
        figures |= _pair_figures(registration, dataset, config)
    (workdir / "figures").mkdir(exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(workdir / "figures" / f"{name}.png")
        figure.savefig(paths[-1], dpi=150)
    print(f"figures: {', '.join(map(str, paths))}", flush=True)


def _pair_figures(registration: Registration, dataset: Dataset, config: ConfigDict) -> dict[str, Figure]:
    """`registration`, and `attention` where a 2-D model has and keeps it."""
    # All are registered at once, and no more than that has been shown to fit the memory.
    count = min(NUM_DRAWN_PAIRS, config.eval.batch_size)
    pairs = next(iter(scoring.pair_lists(dataset.test, config).values()))[:count]
    fixed, moving = (np.asarray(to_unit_range(jnp.asarray(dataset.test.images[pairs[:, side]]))) for side in (0, 1))
    if (deformation := configs.deformation(config)) is not None:
        keys = scoring.pair_keys(config.eval.pairs_seed, len(dataset.test), pairs)
        fixed = np.asarray(warp(moving, draw_displacements(keys, moving.shape[1:-1], deformation)))
    result = jax.device_get(registration.register(fixed, moving, normalized=True))
    title = f"{Path(config.dataset.name).name}: the first {len(pairs)} test pairs, step {registration.step:,}"
    images, displacement = (fixed, moving, result.warped), result.displacement
    is_volume = displacement.shape[-1] == 3
    if is_volume:
        images, displacement = tuple(map(_middle, images)), _middle(displacement)[..., 1:]
    figures = {"registration": visualize.registration_figure(*images, displacement, title)}
    blocks = result.out.get("decoder", {})
    weights = blocks.get(f"block_{len(blocks) - 1}", {}).get("cross_attention")
    if weights is not None and not is_volume:  # models without attention have none, and flash attention keeps none
        read = result.out.get("read", moving)  # on the last level's grid
        figures["attention"] = visualize.attention_figure(
            np.asarray(shrink(jnp.asarray(fixed[:1]), read.shape[1:-1]))[0],
            read[0],
            weights[0],
            token_grid=result.out["token_grid"],
            patch_size=result.out["patch_size"],
        )
    return figures


def _middle(volumes: np.ndarray) -> np.ndarray:
    """`[B, D, H, W, C]` to its middle slices `[B, H, W, C]`."""
    return volumes[:, volumes.shape[1] // 2]
