"""Regularizers: losses of an irregular displacement. Lower is smoother; one value for each pair."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import cell_jacobian_determinants
from air_jax.transforms.shapes import check_displacement

# Jacobian determinants below this value cost. It is above 0, because a penalty from 0 on leaves some folds.
FOLDING_MARGIN = 0.05


@on_any_mesh
def diffusion_loss(displacement: jax.Array) -> jax.Array:
    """Diffusion regularizer (Balakrishnan et al. 2019, VoxelMorph, section III-B).

    Args:
      displacement: `[B, *S, N]` in voxel units.

    Returns:
      `[B]`: the mean over the N axes of the mean squared forward difference along each; 0 for a translation.

    Raises:
      ValueError: the shape is not that of a displacement, or an axis has fewer than 2 voxels.

    Examples:
      >>> rows = jnp.arange(8.0)[:, None, None]
      >>> displacement = jnp.broadcast_to(0.5 * rows, (1, 8, 8, 2))
      >>> float(air_jax.losses.diffusion_loss(displacement)[0])
      0.125
    """
    check_displacement("diffusion_loss", displacement)
    if any(size < 2 for size in displacement.shape[1:-1]):
        raise ValueError(
            f"diffusion_loss: displacement has shape {displacement.shape}; "
            "derivatives need at least 2 voxels along each axis"
        )
    axes = range(1, displacement.ndim - 1)
    mean_over = tuple(range(1, displacement.ndim))
    squares = [jnp.mean(jnp.square(jnp.diff(displacement, axis=axis)), axis=mean_over) for axis in axes]
    return sum(squares[1:], start=squares[0]) / len(squares)


@on_any_mesh
def bending_loss(displacement: jax.Array) -> jax.Array:
    """Bending energy (Rueckert et al. 1999, equation 4).

    Args:
      displacement: `[B, *S, N]` in voxel units, at least 3 voxels along each axis.

    Returns:
      `[B]`: the sum of squared second derivatives over all ordered pairs of axes, so mixed ones count twice, as a mean
      over interior voxels and the N components; 0 for an affine map.

    Raises:
      ValueError: the shape is not that of a displacement, or an axis has fewer than 3 voxels.

    Examples:
      >>> rows = jnp.arange(8.0)[:, None, None]
      >>> displacement = jnp.broadcast_to(0.5 * rows**2, (1, 8, 8, 2))
      >>> float(air_jax.losses.bending_loss(displacement)[0])
      1.0
    """
    check_displacement("bending_loss", displacement)
    if any(size < 3 for size in displacement.shape[1:-1]):
        raise ValueError(
            f"bending_loss: displacement has shape {displacement.shape}; "
            "second derivatives need at least 3 voxels along each axis"
        )
    num_axes = displacement.ndim - 2
    sizes = displacement.shape[1:-1]

    def shifted(steps):
        """The interior, shifted by `steps[axis]` voxels along each axis of `steps`."""
        starts = [1 + steps.get(axis, 0) for axis in range(num_axes)]
        index = (slice(start, start + size - 2) for start, size in zip(starts, sizes, strict=True))
        return displacement[(slice(None), *index)]

    energy = jnp.zeros_like(shifted({}))
    for a in range(num_axes):
        energy += jnp.square(shifted({a: 1}) - 2 * shifted({}) + shifted({a: -1}))
        for b in range(a):
            rising = shifted({a: 1, b: 1}) + shifted({a: -1, b: -1})
            falling = shifted({a: 1, b: -1}) + shifted({a: -1, b: 1})
            energy += 2 * jnp.square((rising - falling) / 4)
    return jnp.mean(energy, axis=tuple(range(1, displacement.ndim)))


@on_any_mesh
def folding_loss(displacement: jax.Array) -> jax.Array:
    """Folding penalty: the amount by which Jacobian determinants are below 0.05, at every corner of every cell.

    A cell is the square or cube between voxels. A penalty on one combination of differences (as in Kuang & Schmah 2019,
    FAIM) misses folds at the other corners, and an optimiser then makes folds there.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[B]`: the mean of `max(0.05 - J, 0)` over corners and cells; 0 where all determinants are at least 0.05.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.

    Examples:
      >>> rows = jnp.arange(8.0)[:, None]
      >>> mirrored = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(-2 * rows)
      >>> round(float(air_jax.losses.folding_loss(mirrored)[0]), 2)
      1.05
    """
    lacking = jax.nn.relu(FOLDING_MARGIN - cell_jacobian_determinants(displacement))
    return jnp.mean(lacking, axis=(0, *range(2, lacking.ndim)))


@on_any_mesh
def volume_loss(displacement: jax.Array) -> jax.Array:
    """Penalty on lost and gained volume: squared logarithms of Jacobian determinants, at every corner of every cell.

    Half of the volume costs as much as twice the volume. Rohlfing et al. (2003, IEEE TMI 22, 730-741) take the absolute
    value of the logarithm instead of its square, which costs less where much volume is lost at one place.

    Args:
      displacement: `[B, *S, N]` in voxel units, 2-D or 3-D, at least 3 voxels along each axis.

    Returns:
      `[B]`: the mean of `log(max(J, 0.05))^2` over corners and cells; 0 where the volume is kept. Determinants below
      0.05 have no gradient here; `folding_loss` is for them.

    Raises:
      ValueError: the shape is not that of a 2-D or 3-D displacement.

    Examples:
      >>> rows = jnp.arange(8.0)[:, None]
      >>> doubled = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(rows)
      >>> round(float(air_jax.losses.volume_loss(doubled)[0]), 3)  # log(2)^2
      0.48
    """
    determinants = jnp.maximum(cell_jacobian_determinants(displacement), FOLDING_MARGIN)
    return jnp.mean(jnp.square(jnp.log(determinants)), axis=(0, *range(2, determinants.ndim)))


REGULARIZERS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "folding": folding_loss,
    "diffusion": diffusion_loss,
    "bending": bending_loss,
    "volume": volume_loss,
}
"""Losses of a displacement, by their keys in the config.

Examples:
  >>> sorted(air_jax.losses.REGULARIZERS)
  ['bending', 'diffusion', 'folding', 'volume']
"""
