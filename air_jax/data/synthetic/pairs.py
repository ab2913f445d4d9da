"""Pairs made of label maps: one map, two random deformations, two random contrasts (Hoffmann et al. 2022)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_integer, check_number
from air_jax.data.pairs import Array, Pair
from air_jax.data.synthetic.contrast import Contrast, draw_images
from air_jax.data.synthetic.noise import multiscale_noise
from air_jax.errors import OptionError
from air_jax.transforms import compose, exponential, resize, warp

_INTEGRATION_STEPS = 5


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """Random deformations and contrasts of label maps.

    Attributes:
      velocity: largest root mean square of each velocity component, in voxels, for each of `spacings`; a quarter of
        the spacing where that is less, because larger ones fold. At least 0.
      spacings: distances between the control points of the velocities, in voxels, each at least 2.
      contrast: random contrasts.

    Raises:
      OptionError: a value is out of its range.
    """

    velocity: float = 2.5
    spacings: tuple[int, ...] = (8, 16, 32)
    contrast: Contrast = dataclasses.field(default_factory=Contrast)

    def __post_init__(self):
        check_number("velocity", self.velocity, low=0)
        if not self.spacings:
            raise OptionError("spacings", self.spacings, "needs at least one number")
        for spacing in self.spacings:
            check_integer("spacings", spacing, 2)


def synthesize(keys: jax.Array, labels: Array, label_ids: Sequence[int], synthesis: Synthesis) -> Pair:
    """Makes a pair of each label map.

    Fixed and moving image have independent deformations and contrasts. A deformation is the exponential of a random
    velocity, integrated at half of the resolution; the map is sampled at the nearest voxel, and its values at the
    border continue outside.

    Args:
      keys: random keys `[B]`, one for each pair.
      labels: `[B, *S]` integers, 2-D or 3-D.
      label_ids: the ids without 0, sorted, which have a contrast of their own.
      synthesis: settings.

    Returns:
      The pairs: images `[B, *S, 1]` float32 in [0, 1], segmentations `[B, *S]` of the dtype of `labels`, and the true
      displacement: the fixed image's deformation, then the inverse of the moving image's.
    """
    shape, labels = labels.shape[1:], jnp.asarray(labels)

    def side(index: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        side_keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(keys)
        velocity = _velocities(side_keys[:, 0], shape, synthesis)
        deformed = warp(labels, _integrated(velocity, shape), order=0, mode="nearest")
        return draw_images(side_keys[:, 1], deformed, label_ids, synthesis.contrast), deformed, velocity

    (fixed, fixed_segmentation, fixed_velocity), (moving, moving_segmentation, moving_velocity) = side(0), side(1)
    truth = compose(_integrated(-moving_velocity, shape), _integrated(fixed_velocity, shape))
    return Pair(fixed, moving, fixed_segmentation, moving_segmentation, truth)


def _velocities(keys: jax.Array, shape: Sequence[int], synthesis: Synthesis) -> jax.Array:
    """Draws velocities at half of the resolution, in its voxels."""
    half, spacings = [-(-size // 2) for size in shape], [spacing // 2 for spacing in synthesis.spacings]

    largest = [min(synthesis.velocity, spacing / 4) / 2 for spacing in synthesis.spacings]

    def velocity(key: jax.Array) -> jax.Array:
        return multiscale_noise(key, half, spacings, len(shape), largest=largest)

    return jax.vmap(velocity)(keys)


def _integrated(velocity: jax.Array, shape: Sequence[int]) -> jax.Array:
    """The displacement `[B, *S, N]` in voxels."""
    return resize(exponential(velocity, integration_steps=_INTEGRATION_STEPS), shape)
