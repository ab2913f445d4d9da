"""The sampler of the spatial transformer (paper section 2.1; Jaderberg et al. 2015, section 3.3)."""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.scipy.ndimage import map_coordinates

from air_jax.transforms.grid import identity_grid

MODES = ("constant", "nearest", "mirror", "reflect", "wrap")


@partial(jax.jit, static_argnames=("order", "mode"))
def warp(image: jax.Array, displacement: jax.Array, order: int = 1, mode: str = "constant") -> jax.Array:
    """Samples an image where a pull-back displacement points: `warped(p) = image(p + u(p))`.

    A zero displacement returns the image to the last bit. Differentiable in both arguments, to any order; at integer
    coordinates the derivative is the one-sided one towards larger coordinates.

    Args:
      image: `[B, *S, C]`, or `[B, *S]` (labels). Any dtype; order 0 keeps integers exact.
      displacement: `[B, *S, N]` float32, voxel units, array-index order, `N = len(S)`.
      order: 1 interpolates linearly, 0 takes the nearest voxel.
      mode: what lies outside the image: `constant` (zeros, fading over one voxel), `nearest`, `mirror`, `reflect`,
        `wrap`, as in `jax.scipy.ndimage.map_coordinates`. `constant` and `wrap` are SciPy's `grid-constant` and
        `grid-wrap`.

    Returns:
      The warped image, shape and dtype of `image`.

    Raises:
      ValueError: shapes do not fit each other, or `order` or `mode` is unknown.
    """
    check_warp(image, displacement, order, mode)
    coordinates = identity_grid(displacement.shape[1:-1])[None] + displacement.astype(jnp.float32)
    coordinates = jnp.moveaxis(coordinates, -1, 1)  # [B, N, *S], as map_coordinates wants it

    volumes = image[..., None] if image.ndim < displacement.ndim else image
    if order == 1 and jnp.issubdtype(image.dtype, jnp.floating):
        warped = _sample_linearly(volumes, coordinates, mode)
    else:
        warped = _sample(volumes, coordinates, order, mode)
    return warped.reshape(image.shape)


def check_warp(image: jax.Array, displacement: jax.Array, order: int, mode: str) -> None:
    """Raises `ValueError` with one line when `warp` cannot take these arguments."""
    num_axes = displacement.shape[-1] if displacement.ndim else 0
    if displacement.ndim != num_axes + 2:
        raise ValueError(
            f"warp: displacement has shape {displacement.shape}; it must be [B, *S, N], "
            "with as many spatial axes S as vector components N"
        )
    if image.ndim not in (num_axes + 1, num_axes + 2) or image.shape[: num_axes + 1] != displacement.shape[:-1]:
        raise ValueError(
            f"warp: image of shape {image.shape} does not fit displacement of shape {displacement.shape}; "
            f"the image must be [B, *S, C] or [B, *S] with [B, *S] = {list(displacement.shape[:-1])}"
        )
    if order not in (0, 1):
        raise ValueError(f"warp: order is {order}; it must be 0 (nearest) or 1 (linear)")
    if mode not in MODES:
        raise ValueError(f"warp: mode is {mode!r}; it must be one of {', '.join(MODES)}")


def _sample(volumes: jax.Array, coordinates: jax.Array, order: int, mode: str) -> jax.Array:
    """Samples `volumes` `[B, *S, C]` at `coordinates` `[B, N, *S]`."""

    def sample(volume, coordinates):
        return map_coordinates(volume, list(coordinates), order=order, mode=mode)

    return jax.vmap(jax.vmap(sample, in_axes=(-1, None), out_axes=-1))(volumes, coordinates)


# ---- The derivative of linear interpolation --------------------------------------------------------------------------
#
# The derivative that JAX finds for map_coordinates computes indices, checks and weights anew for each of its 2^N
# corners and N components. Written out below, it reads each corner once, through one flat index; on a CPU that is
# several times faster (experiments/benchmark). A rule for jvp, not vjp, so that forward mode and higher orders stay.


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _sample_linearly(volumes: jax.Array, coordinates: jax.Array, mode: str) -> jax.Array:
    return _sample(volumes, coordinates, 1, mode)


@partial(_sample_linearly.defjvp, symbolic_zeros=True)
def _sample_linearly_jvp(mode, primals, tangents):
    volumes, coordinates = primals
    volumes_dot, coordinates_dot = tangents
    value = _sample_linearly(volumes, coordinates, mode)
    indices = _corner_indices(volumes.shape[:-1], coordinates, mode)
    # [N, B, *S, 1], so that they multiply the corners' [B, *S, C]
    fractions = jnp.moveaxis(coordinates - jnp.floor(coordinates), 1, 0)[..., None]
    value_dot = jnp.zeros_like(value)
    if not isinstance(volumes_dot, SymbolicZero):
        corners = _corner_values(volumes_dot, indices, mode)
        value_dot += sum(_weight(corner, fractions) * corners[corner] for corner in corners)
    if not isinstance(coordinates_dot, SymbolicZero):
        corners = _corner_values(volumes, indices, mode)
        for axis in range(len(fractions)):
            slope = sum((1 if c[axis] else -1) * _weight(c, fractions, axis) * corners[c] for c in corners)
            value_dot += slope * coordinates_dot[:, axis, ..., None]
    return value, value_dot.astype(value.dtype)


def _corner_indices(shape: Sequence[int], coordinates: jax.Array, mode: str) -> list[list[jax.Array]]:
    """Where the corners of each coordinate lie in `_corner_values`' list of voxels, as sums of what each axis adds."""
    batch, *sizes = shape
    if mode == "constant":
        sizes = [size + 2 for size in sizes]
    if batch * math.prod(sizes) > np.iinfo(np.int32).max:
        raise ValueError(f"warp: images of shape {tuple(shape)} hold too many voxels for one batch; split it")
    start = jnp.arange(batch, dtype=jnp.int32).reshape(-1, *(1,) * len(sizes)) * math.prod(sizes)
    pairs = []
    for axis, size in enumerate(sizes):
        lower = jnp.floor(coordinates[:, axis]).astype(jnp.int32)
        stride = math.prod(sizes[axis + 1 :])
        pairs.append([stride * _within(index, size, mode) for index in (lower, lower + 1)])
    pairs[0] = [start + index for index in pairs[0]]
    # Otherwise XLA computes them anew for each corner and component.
    return jax.lax.optimization_barrier(pairs)


def _within(index: jax.Array, size: int, mode: str) -> jax.Array:
    """The voxel along an axis of `size` that stands for `index`, which may lie outside."""
    if mode == "constant":  # of the padded axis: its zeros stand for all that lies outside
        return jnp.clip(index + 1, 0, size - 1)
    if mode == "nearest" or size == 1:
        return jnp.clip(index, 0, size - 1)
    if mode == "wrap":
        return index % size
    if mode == "mirror":
        return jnp.abs((index + size - 1) % (2 * size - 2) - (size - 1))
    period = index % (2 * size)  # reflect
    return jnp.minimum(period, 2 * size - 1 - period)


def _corner_values(
    volumes: jax.Array, indices: Sequence[Sequence[jax.Array]], mode: str
) -> dict[tuple[int, ...], jax.Array]:
    """The values `[B, *S, C]` of `volumes` at each corner: 0 for lower, 1 for upper along each axis."""
    if mode == "constant":
        volumes = jnp.pad(volumes, [(0, 0), *[(1, 1)] * len(indices), (0, 0)])
    voxels = volumes.reshape(-1, volumes.shape[-1])
    return {
        corner: voxels.at[sum(pair[upper] for pair, upper in zip(indices, corner, strict=True))].get(
            mode="promise_in_bounds"
        )
        for corner in itertools.product((0, 1), repeat=len(indices))
    }


def _weight(corner: Sequence[int], fractions: jax.Array, without: int | None = None) -> jax.Array:
    """The weight of a corner in the interpolation; `without` leaves the factor of one axis out."""
    factors = [
        fraction if upper else 1 - fraction
        for axis, (upper, fraction) in enumerate(zip(corner, fractions, strict=True))
        if axis != without
    ]
    return math.prod(factors)
