"""What constraints and landmarks add to the descent on one level: a loss, and a correction after every round."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from air_jax.optimize.constraints import Constraints, at_level, hold_axes, projection, volume_projection
from air_jax.optimize.geometry import Sizes
from air_jax.optimize.guidance import Guidance, at_grids, deformation_cost
from air_jax.optimize.visibility import Images
from air_jax.optimize.volume import FEW_STEPS
from air_jax.transforms import between_grids, invert_affine


class Extra(NamedTuple):
    """The additions of one level.

    Attributes:
      loss: function of a displacement `[B, *S, N]` that returns `[B]`, or None: nothing is added.
      project: function of a displacement that makes bodies rigid.
      restore: function of a displacement that restores volumes roughly.
      constraints: those of the level.
    """

    loss: Callable[[jax.Array], jax.Array] | None
    project: Callable[[jax.Array], jax.Array]
    restore: Callable[[jax.Array], jax.Array]
    constraints: Constraints

    def gradient(self, gradient: jax.Array) -> jax.Array:
        """Sets the components of a gradient `[B, *shape, N]` along axes that are not free to zero."""
        return hold_axes(self.constraints, gradient, jnp.zeros_like(gradient))

    def accept(self, displacement: jax.Array, start: jax.Array) -> jax.Array:
        """Corrects a displacement `[B, *S, N]` at the end of a round that began at `start`."""
        return hold_axes(self.constraints, self.project(displacement), start)

    def finish(self, displacement: jax.Array, start: jax.Array) -> jax.Array:
        """Corrects a displacement `[B, *S, N]` at the end of several rounds that began at `start`."""
        return hold_axes(self.constraints, self.restore(displacement), start)


def level_extra(
    constraints: Constraints,
    guidance: Guidance | None,
    matrix: jax.Array | None,
    sizes: tuple[Sizes, Sizes],
    images: Images,
    small: Images,
) -> Extra:
    """Makes the additions of one level.

    Args:
      constraints, guidance: on the grids of the images.
      matrix: `[B, N, N + 1]` from fixed to moving voxels of the level, or None: the identity.
      sizes: lengths of the fixed and the moving image's voxels.
      images, small: the images and those of the level; only their shapes matter.

    Returns:
      The additions.
    """
    shapes = [(each.fixed.shape[1:-1], each.moving.shape[1:-1]) for each in (images, small)]
    to_grids, lengths = [], []
    for size, old, new in zip(sizes, *shapes, strict=True):
        to_grids.append(invert_affine(between_grids(old, new)))
        lengths.append(tuple(each * before / after for each, before, after in zip(size, old, new, strict=True)))
    constraints = at_level(constraints, shapes[1][0])
    of_level = matrix, (lengths[0], lengths[1])
    project = projection(constraints, *of_level)
    restore = volume_projection(constraints, *of_level, num_steps=FEW_STEPS)
    if guidance is None:
        return Extra(None, project, restore, constraints)
    guides = at_grids(guidance, to_grids[0], to_grids[1])
    return Extra(lambda u: deformation_cost(guides, u, *of_level, min(sizes[0])), project, restore, constraints)
