"""Augmentation: a random affine map and a random smooth deformation, the same for both images of a pair."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from air_jax.checks import is_number
from air_jax.data.deformation import Deformation, draw_displacements
from air_jax.data.pairs import Array, Pair
from air_jax.errors import OptionError
from air_jax.transforms import apply_affine, identity_grid, sample


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of the random map that moves both images of a pair. The default moves nothing.

    Attributes:
      flip: whether every axis is mirrored with probability 1/2.
      rotation: largest angle in each plane of axes, in degrees, in either direction. At least 0.
      scale: largest relative change of size: 0.1 is from 90 % to 110 %. In [0, 1).
      translation: largest shift along each axis, in voxels, in either direction. At least 0.
      elastic: amplitude of the smooth deformation along each axis (root mean square), in voxels; see
        `air_jax.data.deformation`. From 0 to a quarter of `elastic_spacing`, because larger ones fold.
      elastic_spacing: distance between the control points of the smooth deformation, in voxels. At least 1; larger
        values are smoother.

    Raises:
      OptionError: a value is out of its range.
    """

    flip: bool = False
    rotation: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    elastic: float = 0.0
    elastic_spacing: int = 16

    def __post_init__(self):
        for name in ("rotation", "scale", "translation", "elastic"):
            value = getattr(self, name)
            if not is_number(value) or value < 0:
                raise OptionError(name, value, "must be finite and not negative")
        if not self.scale < 1:
            raise OptionError("scale", self.scale, "must be less than 1")
        if self.elastic_spacing < 1:
            raise OptionError("elastic_spacing", self.elastic_spacing, "must be positive")
        if 4 * self.elastic > self.elastic_spacing:
            largest = self.elastic_spacing / 4
            raise OptionError("elastic", self.elastic, f"must be at most {largest:g}, a quarter of elastic_spacing")

    def moves(self) -> bool:
        """Returns whether the map can differ from the identity."""
        return self != Augmentation(elastic_spacing=self.elastic_spacing)


def augment(keys: jax.Array, pair: Pair, augmentation: Augmentation) -> Pair:
    """Moves both images of each pair, and their segmentations, by one random map.

    Images are sampled linearly, and outside of the image the value at its border continues. Segmentations are sampled
    with nearest neighbour, and are 0 outside. The map is one of voxels: where these are not cubes, a rotation is also a
    shear.

    Args:
      keys: random keys `[B]`, one for each pair.
      pair: images `[B, *S, C]` float32 in [0, 1], segmentations `[B, *S]` integers or None.
      augmentation: ranges of the random map.

    Returns:
      The moved pair, of the same shapes and types.
    """
    shape = pair.fixed.shape[1:-1]
    matrices = jax.vmap(lambda key: _draw_matrix(key, shape, augmentation))(keys)
    grid = jnp.broadcast_to(identity_grid(shape)[None], (len(keys), *shape, len(shape)))
    if augmentation.elastic:
        deformation = Deformation(augmentation.elastic, augmentation.elastic_spacing)
        # The affine map uses the keys 0 to 3.
        elastic_keys = jax.vmap(lambda key: jax.random.fold_in(key, 4))(keys)
        grid = grid + draw_displacements(elastic_keys, shape, deformation)
    points = apply_affine(matrices, grid)

    def moved_image(image: Array) -> jax.Array:
        return sample(jnp.asarray(image), points, order=1, mode="nearest")

    def moved_segmentation(segmentation: Array | None) -> jax.Array | None:
        return None if segmentation is None else sample(jnp.asarray(segmentation), points, order=0, mode="constant")

    return Pair(
        moved_image(pair.fixed),
        moved_image(pair.moving),
        moved_segmentation(pair.fixed_segmentation),
        moved_segmentation(pair.moving_segmentation),
    )


def _draw_matrix(key: jax.Array, shape: tuple[int, ...], augmentation: Augmentation) -> jax.Array:
    """Draws `[N, N + 1]`, from the voxels of the moved image to those of the given one, about the image's centre."""
    num_axes = len(shape)
    flip_key, rotation_key, scale_key, translation_key = jax.random.split(key, 4)
    linear = jnp.eye(num_axes)
    angles = jax.random.uniform(rotation_key, (num_axes, num_axes), minval=-1.0) * math.radians(augmentation.rotation)
    for i in range(num_axes):
        for j in range(i + 1, num_axes):
            cosine, sine = jnp.cos(angles[i, j]), jnp.sin(angles[i, j])
            turn = jnp.eye(num_axes).at[i, i].set(cosine).at[j, j].set(cosine).at[i, j].set(-sine).at[j, i].set(sine)
            linear = jnp.matmul(turn, linear, precision=jax.lax.Precision.HIGHEST)
    linear = linear * (1 + augmentation.scale * jax.random.uniform(scale_key, minval=-1.0))
    if augmentation.flip:
        linear = linear * jax.random.rademacher(flip_key, (1, num_axes), jnp.float32)
    centre = (jnp.asarray(shape, jnp.float32) - 1) / 2
    offset = centre - jnp.sum(linear * centre[None], axis=1)
    offset = offset + augmentation.translation * jax.random.uniform(translation_key, (num_axes,), minval=-1.0)
    return jnp.concatenate([linear, offset[:, None]], axis=1)
