"""The maps gather and scatter of `interpolation.py` for few channels on GPUs, each as a single loop.

The loop of gather runs over points, channels and sets, that of scatter over points, channels and corners. Indices and
weights are computed again for each channel, set or corner. That costs a GPU less time than reading them from memory, to
which XLA would write them by default. The loop has no pieces, so int32 must be able to count its elements.
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.transforms.sampling.cells import AxisSets, Corner, voxel_within


def gather(volumes: jax.Array, points: jax.Array, *, axis_sets: AxisSets, mode: str, relative: bool) -> list[jax.Array]:
    """Computes `S_A volumes` for each `A` of `axis_sets`; arguments and results as in `gather_scatter.gather`."""
    _, *shape, channels = volumes.shape
    size = (*points.shape[:-1], channels, len(axis_sets))
    lower, fractions = _cells(points, relative, size)
    start, channel, chosen = _counted(size, 0), _counted(size, -2), _counted(size, -1)
    voxels = volumes.astype(jnp.promote_types(volumes.dtype, jnp.float32)).reshape(-1)
    corners = {}
    for corner in itertools.product((0, 1), repeat=len(shape)):
        voxel, inside = _voxel([index + upper for index, upper in zip(lower, corner, strict=True)], start, shape, mode)
        found = voxels.at[voxel * channels + channel].get(mode="promise_in_bounds")
        corners[corner] = jnp.where(inside, found, 0) if mode == "constant" else found
    for axis, fraction in enumerate(fractions):
        is_slope = jnp.zeros_like(chosen, bool)
        for number, axes in enumerate(axis_sets):
            is_slope |= (chosen == number) & (axis in axes)
        corners = _contract_first(corners, fraction, is_slope)
    return [corners[()][..., number].astype(volumes.dtype) for number in range(len(axis_sets))]


def scatter(
    values: Sequence[jax.Array],
    points: jax.Array,
    *,
    axis_sets: AxisSets,
    mode: str,
    relative: bool,
    shape: tuple[int, ...],
) -> jax.Array:
    """Computes the sum of `T_A values` over `axis_sets`; arguments and result as in `gather_scatter.scatter`."""
    batch, channels, dtype = values[0].shape[0], values[0].shape[-1], values[0].dtype
    size = (*points.shape[:-1], channels, 2 ** len(shape))
    lower, fractions = _cells(points, relative, size)
    corner = _counted(size, -1)
    uppers = [(corner >> axis) & 1 for axis in range(len(shape))]
    voxel, inside = _voxel(list(map(operator.add, lower, uppers)), _counted(size, 0), shape, mode)
    place = voxel * channels + _counted(size, -2)
    sum_dtype = jnp.promote_types(dtype, jnp.float32)
    update = jnp.zeros((), sum_dtype)
    for axes, value in zip(axis_sets, values, strict=True):
        weights = [
            jnp.where(upper == 1, *((1, -1) if axis in axes else (fraction, 1 - fraction)))
            for axis, (upper, fraction) in enumerate(zip(uppers, fractions, strict=True))
        ]
        update += math.prod(weights) * _spread(value.astype(sum_dtype), size)
    sums = jnp.zeros(batch * math.prod(shape) * channels, sum_dtype)
    if mode == "constant":  # values outside are dropped
        sums = sums.at[jnp.where(inside, place, sums.size)].add(update, mode="drop")
    else:
        sums = sums.at[place].add(update, mode="promise_in_bounds")
    return sums.reshape(batch, *shape, channels).astype(dtype)


def _cells(points: jax.Array, relative: bool, size: Sequence[int]) -> tuple[list[jax.Array], list[jax.Array]]:
    """Returns for each axis the lower voxel of the cell around each point, and the position in the cell, of `size`."""
    lower, fractions = [], []
    for axis in range(points.shape[-1]):
        coordinate = points[..., axis]
        if relative:
            coordinate = jax.lax.broadcasted_iota(jnp.float32, points.shape[:-1], axis + 1) + coordinate
        coordinate = _spread(coordinate, size)
        floor = jnp.floor(coordinate)
        lower.append(floor.astype(jnp.int32))
        fractions.append(coordinate - floor)
    return lower, fractions


def _voxel(indices: Sequence[jax.Array], image: jax.Array, shape: Sequence[int], mode: str):
    """Returns the flat index, through all images, of the voxels for `indices`; and whether `indices` are inside."""
    voxel = image
    for index, length in zip(indices, shape, strict=True):
        voxel = voxel * length + voxel_within(index, length, mode)
    inside = [(index >= 0) & (index < length) for index, length in zip(indices, shape, strict=True)]
    return voxel, functools.reduce(operator.and_, inside)


def _contract_first(
    corners: dict[Corner, jax.Array], fraction: jax.Array, is_slope: jax.Array
) -> dict[Corner, jax.Array]:
    """Reduces both corners along the first axis to their slope or to the value between them."""
    contracted = {}
    for rest in {corner[1:] for corner in corners}:
        slope = corners[1, *rest] - corners[0, *rest]
        contracted[rest] = jnp.where(is_slope, slope, corners[0, *rest] + slope * fraction)
    return contracted


def _spread(array: jax.Array, size: Sequence[int]) -> jax.Array:
    """Repeats `array`, whose axes are the first ones of `size`, along the other axes."""
    return jax.lax.broadcast_in_dim(array, size, range(array.ndim))


def _counted(size: Sequence[int], axis: int) -> jax.Array:
    return jax.lax.broadcasted_iota(jnp.int32, size, axis % len(size))
