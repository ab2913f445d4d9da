"""Random shapes in volumes, as `air_jax.data.shapes` in pictures."""

from air_jax.data.shapes import draw
from air_jax.data.source import Source
from air_jax.data.synthetic.pairs import Synthesis
from air_jax.data.synthetic.shapes import Shapes

SHAPE = (48, 48, 48)
SIZES = (100, 20, 20)


def load() -> Source:
    """Draws the shapes, always the same.

    Returns:
      Images `[280, 48, 48, 48, 1]` uint8 with segmentations, paired as in `air_jax.data.shapes.load`.
    """
    return draw(SHAPE, SIZES, Shapes(), Synthesis())
