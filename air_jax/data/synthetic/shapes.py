"""Label maps of random shapes: regions and strokes, drawn from noise (Hoffmann et al. 2022, SynthMorph)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_integer, check_number
from air_jax.data.synthetic.noise import multiscale_noise, smooth_noise
from air_jax.transforms import warp

_MIN_SLOPE = 1e-3  # so that no division by 0 occurs


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Settings of random label maps. Lengths are in voxels.

    Attributes:
      num_regions: largest number of regions, the background among them, at least 2. Each map has from 2 to as many.
      spacings: distances between the control points of the noise whose largest channel gives the region.
      warp: largest amplitude of the displacement that bends each region's noise by itself.
      warp_spacings: distances between the control points of these displacements.
      stroke_width: largest width of strokes, 0 for none. Half of the maps have strokes, with widths from 2 voxels on.
      stroke_spacing: distance between the control points of the noise whose zero crossings are strokes.

    Raises:
      OptionError: a value is out of its range.
    """

    num_regions: int = 5
    spacings: tuple[int, ...] = (8, 16)
    warp: float = 3.0
    warp_spacings: tuple[int, ...] = (8, 16)
    stroke_width: float = 5.0
    stroke_spacing: int = 12

    def __post_init__(self):
        check_integer("num_regions", self.num_regions, 2)
        check_integer("stroke_spacing", self.stroke_spacing, 1)
        for spacing in (*self.spacings, *self.warp_spacings):
            check_integer("spacings", spacing, 1)
        check_number("warp", self.warp, low=0)
        check_number("stroke_width", self.stroke_width, low=0)

    @property
    def label_ids(self) -> tuple[int, ...]:
        """The label ids without 0, the background; the last one is that of strokes."""
        return tuple(range(1, self.num_regions + (self.stroke_width > 0)))


def draw_shapes(keys: jax.Array, shape: Sequence[int], shapes: Shapes = Shapes()) -> jax.Array:
    """Draws label maps.

    A region is where its channel of a smooth noise is the largest. A stroke is a band of constant width around a part
    of the zero crossings of another noise; in a volume it is a sheet.

    Args:
      keys: random keys `[B]`, one for each map.
      shape: spatial shape `S`.
      shapes: settings.

    Returns:
      `[B, *S]` int32 in `(0, *shapes.label_ids)`. Each map is a function of its key only.
    """
    return jax.vmap(lambda key: _draw(key, tuple(shape), shapes))(keys)


def _draw(key: jax.Array, shape: tuple[int, ...], shapes: Shapes) -> jax.Array:
    noise_key, warp_key, number_key, stroke_key = jax.random.split(key, 4)
    count, num_axes = shapes.num_regions, len(shape)
    noise = multiscale_noise(noise_key, shape, shapes.spacings, count, largest=(1.0,) * len(shapes.spacings))
    largest = (shapes.warp,) * len(shapes.warp_spacings)
    bends = multiscale_noise(warp_key, shape, shapes.warp_spacings, count * num_axes, largest=largest)
    bends = jnp.moveaxis(bends.reshape(*shape, count, num_axes), -2, 0)
    noise = warp(jnp.moveaxis(noise, -1, 0)[..., None], bends, mode="nearest")[..., 0]
    present = jnp.arange(count) < jax.random.randint(number_key, (), 2, count + 1)
    regions = jnp.argmax(jnp.where(present.reshape(-1, *(1,) * num_axes), noise, -jnp.inf), axis=0)
    if not shapes.stroke_width:
        return regions.astype(jnp.int32)
    strokes = _strokes(stroke_key, shape, shapes)
    return jnp.where(strokes, shapes.label_ids[-1], regions).astype(jnp.int32)


def _strokes(key: jax.Array, shape: tuple[int, ...], shapes: Shapes) -> jax.Array:
    """Whether a voxel is in a stroke, `[*S]`."""
    noise_key, part_key, width_key, present_key = jax.random.split(key, 4)
    noise = smooth_noise(noise_key, shape, shapes.stroke_spacing, 1)[..., 0]
    slopes = jnp.gradient(noise)
    slope = jnp.sqrt(sum(jnp.square(each) for each in slopes))
    distance = jnp.abs(noise) / (slope + _MIN_SLOPE)  # to the zero crossing, in voxels, to first order
    width = jax.random.uniform(width_key, minval=2.0, maxval=jnp.maximum(shapes.stroke_width, 2.0))
    part = smooth_noise(part_key, shape, shapes.stroke_spacing, 1)[..., 0] > 0
    return (2 * distance < width) & part & jax.random.bernoulli(present_key)
