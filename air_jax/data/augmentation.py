"""Augmentation: pairs moved about, both images alike, so that few subjects show a model many places and shapes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from air_jax.data.deformation import Deformation, draw_displacements
from air_jax.data.pairs import Pair
from air_jax.transforms import apply_affine, identity_grid, sample


class Augmentation(NamedTuple):
    """How far pairs are moved; both images of a pair by the same random map.

    Attributes:
      flip: whether every axis is mirrored with probability 1/2.
      rotation: largest rotation in each plane of axes, in degrees, either way.
      scale: largest change of size, as a share, either way.
      translation: largest shift along each axis, in voxels, either way.
      elastic: root mean square of how far a random smooth deformation moves voxels along each axis beside that, in
        voxels; see `air_jax.data.deformation`.
      elastic_spacing: voxels between its control points; the larger, the smoother. It should be several times as large.
    """

    flip: bool = False
    rotation: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    elastic: float = 0.0
    elastic_spacing: int = 16

    def moves(self) -> bool:
        """Whether there is anything to do."""
        return any(self._replace(elastic_spacing=0))


def augment(keys: jax.Array, pair: Pair, augmentation: Augmentation) -> Pair:
    """Moves pairs about: images linearly, the border's values going on outside; segmentations with nearest neighbour,
    0 outside. Maps are of voxels: where these are not cubes, a rotation is a shear as well.

    Args:
      keys: random keys `[B]`, one a pair.
      pair: images in [0, 1].
      augmentation: how far.
    """
    shape = pair.fixed.shape[1:-1]
    matrices = jax.vmap(lambda key: _draw_matrix(key, shape, augmentation))(keys)
    grid = jnp.broadcast_to(identity_grid(shape)[None], (len(keys), *shape, len(shape)))
    if augmentation.elastic:
        deformation = Deformation(augmentation.elastic, augmentation.elastic_spacing)
        # A fifth key beside the four of the affine map.
        elastic_keys = jax.vmap(lambda key: jax.random.fold_in(key, 4))(keys)
        grid = grid + draw_displacements(elastic_keys, shape, deformation)
    points = apply_affine(matrices, grid)

    def moved(array):
        if array is None:
            return None
        order = int(jnp.issubdtype(array.dtype, jnp.floating))
        return sample(array, points, order=order, mode="nearest" if order else "constant")

    return Pair(*map(moved, pair))


def _draw_matrix(key: jax.Array, shape: tuple[int, ...], augmentation: Augmentation) -> jax.Array:
    """`[N, N + 1]`, from the voxels of the moved image to those of the image, about the image's centre."""
    num_axes = len(shape)
    flips, turns, size, shift = jax.random.split(key, 4)
    linear = jnp.eye(num_axes)
    angles = jax.random.uniform(turns, (num_axes, num_axes), minval=-1.0) * math.radians(augmentation.rotation)
    for i in range(num_axes):
        for j in range(i + 1, num_axes):
            cosine, sine = jnp.cos(angles[i, j]), jnp.sin(angles[i, j])
            turn = jnp.eye(num_axes).at[i, i].set(cosine).at[j, j].set(cosine).at[i, j].set(-sine).at[j, i].set(sine)
            linear = jnp.matmul(turn, linear, precision=jax.lax.Precision.HIGHEST)
    linear = linear * (1 + augmentation.scale * jax.random.uniform(size, minval=-1.0))
    if augmentation.flip:
        linear = linear * jax.random.rademacher(flips, (1, num_axes), jnp.float32)
    centre = (jnp.asarray(shape, jnp.float32) - 1) / 2
    offset = centre - jnp.sum(linear * centre[None], axis=1)
    offset = offset + augmentation.translation * jax.random.uniform(shift, (num_axes,), minval=-1.0)
    return jnp.concatenate([linear, offset[:, None]], axis=1)
