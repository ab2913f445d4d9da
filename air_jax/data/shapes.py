"""Random shapes: pairs of images that are drawn, not measured, with their segmentations (2-D)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.data.dataset import PARTS, Images
from air_jax.data.source import Source
from air_jax.data.synthetic.pairs import Synthesis, synthesize
from air_jax.data.synthetic.shapes import Shapes, draw_shapes

SHAPE = (48, 48)
SIZES = (1_000, 100, 100)  # maps of the training, validation and test part
_AT_ONCE = 50  # maps


def load() -> Source:
    """Draws the shapes, always the same.

    Returns:
      Images `[2400, 48, 48, 1]` uint8 with segmentations; each two consecutive ones are a pair, of one label map with
      two deformations and two contrasts.
    """
    return draw(SHAPE, SIZES, Shapes(), Synthesis())


def draw(shape: Sequence[int], sizes: Sequence[int], shapes: Shapes, synthesis: Synthesis) -> Source:
    """Draws pairs of shapes, which depend on the arguments only.

    Args:
      shape: spatial shape `S`.
      sizes: number of pairs of the training, validation and test part.
      shapes: settings of the label maps.
      synthesis: settings of the deformations and contrasts.
    """

    @jax.jit
    def some(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        map_keys, pair_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        pair = synthesize(pair_keys, draw_shapes(map_keys, shape, shapes), shapes.label_ids, synthesis)
        images = jnp.stack([pair.fixed, pair.moving], axis=1)
        return jnp.round(255 * images).astype(np.uint8), jnp.stack(pair.segmentations(), axis=1)

    total = sum(sizes)
    keys = jax.random.split(jax.random.key(0), -(-total // _AT_ONCE) * _AT_ONCE).reshape(-1, _AT_ONCE)
    drawn = [jax.tree.map(np.asarray, some(part)) for part in keys]
    images, segmentations = (
        np.concatenate(arrays)[:total].reshape(2 * total, *arrays[0].shape[2:]) for arrays in zip(*drawn, strict=True)
    )
    pairs = np.arange(2 * total).reshape(total, 2)
    parts = np.repeat(PARTS, 2 * np.asarray(sizes))
    return Source(Images(images, segmentations=segmentations.astype(np.uint8), pairs=pairs), parts=parts)
