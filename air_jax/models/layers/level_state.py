"""The state that a step of a coarse-to-fine model reads: two images and the displacement on the grid of one level."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from air_jax.transforms import resize, warp
from air_jax.transforms.filters import shrink


class Channels(NamedTuple):
    """The channels of one image.

    Attributes:
      image: `[B, *S, C]` in [0, 1].
      edges: `[B, *S, C]` gradient magnitudes, see `air_jax.transforms.with_edges`; None where they are not used.
      classes: `[B, *S, K - 1]` class probabilities without those of the background; None without a segmenter.
    """

    image: jax.Array
    edges: jax.Array | None = None
    classes: jax.Array | None = None

    @property
    def intensities(self) -> jax.Array:
        """The image, followed by its edges where they are used: `[B, *S, C]` or `[B, *S, 2 C]`."""
        return self.image if self.edges is None else jnp.concatenate([self.image, self.edges], axis=-1)

    def map(self, function: Callable[[jax.Array], jax.Array]) -> "Channels":
        """Applies a function of `[B, *S, F]` to all channels in one call, because one warp costs less than three."""
        parts, structure = jax.tree.flatten(self)
        if len(parts) == 1:
            return structure.unflatten([function(self.image)])
        ends = itertools.accumulate(part.shape[-1] for part in parts[:-1])
        return structure.unflatten(jnp.split(function(jnp.concatenate(parts, axis=-1)), list(ends), axis=-1))


class LevelState(NamedTuple):
    """The images and the displacement at one step, all on the grid of one level.

    Attributes:
      fixed: the channels of the fixed image.
      warped: the channels of the moving image, warped by `displacement`.
      displacement: `[B, *S, N]`, in voxels of the level.
    """

    fixed: Channels
    warped: Channels
    displacement: jax.Array


class Level(NamedTuple):
    """A pair of images on the grid of one level."""

    fixed: Channels
    moving: Channels

    def state(self, displacement: jax.Array) -> LevelState:
        """Warps the moving image by a displacement `[B, *S, N]` of the level."""
        return LevelState(self.fixed, self.moving.map(lambda channels: warp(channels, displacement)), displacement)


def make_level(fixed: Channels, moving: Channels, displacement: jax.Array, factor: int) -> tuple[Level, jax.Array]:
    """Averages a pair of images onto a coarser grid, and resamples the displacement onto it.

    Args:
      fixed, moving: channels `[B, *S, F]`.
      displacement: `[B, *S', N]` of the level before, on any grid.
      factor: voxels of `S` in one voxel of the level, along each axis.

    Returns:
      The level, and the displacement in its voxels.
    """
    grid = tuple(-(-size // factor) for size in fixed.image.shape[1:-1])
    return Level(*(image.map(lambda channels: shrink(channels, grid)) for image in (fixed, moving))), on_grid(
        displacement, grid
    )


def on_grid(displacement: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Resamples a displacement onto a grid of `shape` voxels over the same extent; a grid of its own shape keeps it."""
    return displacement if displacement.shape[1:-1] == tuple(shape) else resize(displacement, shape)
