"""The maps gather and scatter of `interpolation.py`, for every device and any number of channels."""

import functools
import itertools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.runtime.any_mesh import zeros_for
from air_jax.runtime.xla_layout import in_order
from air_jax.transforms.sampling.cells import AxisSets, Corner, coordinates_of, voxel_within

# A CPU takes points in pieces of this size, whose corners and weights stay in the cache. A GPU takes all at once.
POINTS_AT_ONCE = 2**15


def gather(
    volumes: jax.Array, points: jax.Array, *, axis_sets: AxisSets, mode: str, relative: bool, on_cpu: bool = False
) -> list[jax.Array]:
    """Computes `S_A volumes` for each `A` of `axis_sets`.

    Args:
      volumes: `[B, *V, C]`.
      points: `[B, *S, N]` float32 in voxels: displacements from the points' own grid if `relative`, else coordinates.
      axis_sets: sets `A` of axes.
      mode: one of `cells.MODES`.
      relative: the meaning of `points`.
      on_cpu: whether the program is for a CPU.

    Returns:
      `[B, *S, C]` for each `A`.

    Raises:
      ValueError: the batch has more voxels than int32 can count.
    """
    batch, *shape, channels = volumes.shape
    pieces, unite = _pieces(coordinates_of(points, relative), on_cpu)
    voxels = _pad(volumes, mode).reshape(-1, channels)
    if channels == 1:
        voxels = voxels[:, 0]
    starts = _starts(pieces.shape, batch, shape, mode)

    def take(piece):
        coordinates, starts = piece
        indices, fractions = _cell(coordinates, starts, shape, mode, on_cpu)
        corners = {
            corner: voxels.at[index].get(mode="promise_in_bounds") for corner, index in _corner_indices(indices).items()
        }
        if channels > 1:
            fractions = [fraction[..., None] for fraction in fractions]
        return [_contract(corners, fractions, axes) for axes in axis_sets]

    found = _each(take, (pieces, starts))
    return [unite(array).reshape(*points.shape[:-1], channels).astype(volumes.dtype) for array in found]


def scatter(
    values: Sequence[jax.Array],
    points: jax.Array,
    *,
    axis_sets: AxisSets,
    mode: str,
    relative: bool,
    shape: tuple[int, ...],
    on_cpu: bool = False,
) -> jax.Array:
    """Computes the sum of `T_A values` over `axis_sets`.

    Args:
      values: `[B, *S, C]` for each `A`.
      points: `[B, *S, N]`, see `gather`.
      axis_sets: sets `A` of axes.
      mode: one of `cells.MODES`.
      relative: the meaning of `points`, see `gather`.
      shape: spatial shape `V` of the result.
      on_cpu: whether the program is for a CPU.

    Returns:
      `[B, *V, C]`.

    Raises:
      ValueError: the batch has more voxels than int32 can count.
    """
    batch, channels, result_dtype = values[0].shape[0], values[0].shape[-1], values[0].dtype
    pieces, _ = _pieces(coordinates_of(points, relative), on_cpu)
    starts = _starts(pieces.shape, batch, shape, mode)
    dtype = jnp.promote_types(result_dtype, jnp.float32)
    values = [_pieces(value.astype(dtype), on_cpu)[0] for value in values]
    padded = _padded_shape(shape, mode)
    size = (batch * math.prod(padded), channels)[: 1 + (channels > 1)]
    sums = zeros_for(size, *values, pieces)

    def add(sums, piece):
        points, starts, *values = piece
        indices, fractions = _cell(points, starts, shape, mode, on_cpu)
        if channels == 1:
            values = [value[..., 0] for value in values]
        else:
            fractions = [fraction[..., None] for fraction in fractions]
        for corner, index in _corner_indices(indices).items():
            update = sum(_weight(corner, fractions, axes) * v for axes, v in zip(axis_sets, values, strict=True))
            if on_cpu:  # XLA would compute index and weight again for each element
                index, update = jax.lax.optimization_barrier((index, update))
            sums = sums.at[index].add(update, mode="promise_in_bounds")
        return sums, None

    if len(pieces) == 1:
        sums, _ = add(sums, jax.tree.map(lambda array: array[0], (pieces, starts, *values)))
    else:
        sums, _ = jax.lax.scan(add, sums, (pieces, starts, *values))
    sums = sums.reshape(batch, *padded, channels)
    if mode == "constant":
        sums = sums[(slice(None), *(slice(1, -1) for _ in shape))]
    return sums.astype(result_dtype)


def _each(function, arguments):
    """Applies `function` like `lax.map`, without a loop for a single piece."""
    if len(jax.tree.leaves(arguments)[0]) == 1:
        found = function(jax.tree.map(lambda array: array[0], arguments))
        return jax.tree.map(lambda array: array[None], found)
    return jax.lax.map(function, arguments)


def _pieces(array: jax.Array, on_cpu: bool):
    """Cuts `[B, *T, K]` into pieces of several whole images, or of a part of one image.

    Returns:
      `[pieces, images, points, K]`, and the function that joins results of the pieces.
    """
    batch, *rest, size = array.shape
    num_points = math.prod(rest)
    array = in_order(array).reshape(batch, num_points, size)
    known = isinstance(batch * num_points, int)  # a shape that is exported may have symbols
    if not on_cpu or not known or batch * num_points <= POINTS_AT_ONCE:
        return array[None], lambda found: found
    if num_points <= POINTS_AT_ONCE:
        images = max(k for k in range(1, batch + 1) if batch % k == 0 and k * num_points <= POINTS_AT_ONCE)
        return array.reshape(-1, images, num_points, size), lambda found: found
    fewest = -(-num_points // POINTS_AT_ONCE)
    parts = next((n for n in range(fewest, 2 * fewest) if num_points % n == 0), fewest)
    missing = -num_points % parts
    array = jnp.pad(array, [(0, 0), (0, missing), (0, 0)]) if missing else array

    def unite(found):
        return found.reshape(batch, num_points + missing, -1)[:, :num_points]

    return array.reshape(batch * parts, 1, -1, size), unite


def _starts(points_shape: Sequence[int], batch: int, shape: Sequence[int], mode: str) -> jax.Array:
    """Flat index of the first voxel of each point's image, `[pieces, images, 1]`."""
    size = math.prod(_padded_shape(shape, mode))
    if isinstance(batch * size, int) and batch * size > np.iinfo(np.int32).max:
        raise ValueError(f"warp: {batch} images of shape {tuple(shape)} have too many voxels for one batch; split it")
    num_pieces, num_images = points_shape[:2]
    if num_pieces == 1:
        return (size * jnp.arange(batch, dtype=jnp.int32)).reshape(1, batch, 1)
    image = np.arange(num_pieces * num_images) // (num_pieces * num_images // batch)
    return jnp.asarray((image * size).reshape(num_pieces, num_images, 1), jnp.int32)


def _padded_shape(shape: Sequence[int], mode: str) -> tuple[int, ...]:
    """Shape with one voxel of zeros around the volume in the mode `constant`, which stands for all voxels outside."""
    return tuple(size + 2 for size in shape) if mode == "constant" else tuple(shape)


def _pad(volumes: jax.Array, mode: str) -> jax.Array:
    volumes = volumes.astype(jnp.promote_types(volumes.dtype, jnp.float32))
    if mode != "constant":
        return volumes
    return in_order(jnp.pad(volumes, [(0, 0), *[(1, 1)] * (volumes.ndim - 2), (0, 0)]))


def _cell(points: jax.Array, starts: jax.Array, shape: Sequence[int], mode: str, on_cpu: bool):
    """Returns each axis's part of the flat index of lower and upper corners, and its fraction: `[images, points]`."""
    padded = _padded_shape(shape, mode)
    indices, fractions = [], []
    for axis, size in enumerate(padded):
        floor = jnp.floor(points[..., axis])
        fractions.append(points[..., axis] - floor)
        lower = floor.astype(jnp.int32) + (mode == "constant")  # one voxel of zeros comes first
        stride = math.prod(padded[axis + 1 :])
        indices.append([stride * voxel_within(index, size, mode) for index in (lower, lower + 1)])
    indices[0] = [starts + index for index in indices[0]]
    if on_cpu:  # XLA would compute them again for each corner
        return jax.lax.optimization_barrier((indices, fractions))
    return indices, fractions


def _corner_indices(indices: Sequence[Sequence[jax.Array]]) -> dict[Corner, jax.Array]:
    """The flat index of each corner, the sum of the parts of each axis for its lower or upper voxel."""
    return {
        corner: functools.reduce(operator.add, (pair[upper] for pair, upper in zip(indices, corner, strict=True)))
        for corner in itertools.product((0, 1), repeat=len(indices))
    }


def _contract(corners: dict[Corner, jax.Array], fractions: Sequence[jax.Array], axes: Sequence[int]) -> jax.Array:
    """`sum_c d_A w_c * corner_c` with `A = axes`, axis by axis. `fractions`: position in the cell along each axis."""
    for axis, fraction in enumerate(fractions):
        rest = {corner[1:] for corner in corners}
        corners = {
            corner: (corners[1, *corner] - corners[0, *corner])
            if axis in axes
            else corners[0, *corner] + (corners[1, *corner] - corners[0, *corner]) * fraction
            for corner in rest
        }
    return corners[()]


def _weight(corner: Corner, fractions: Sequence[jax.Array], axes: Sequence[int]) -> jax.Array | int:
    """`d_A w_c` with `A = axes`."""
    return math.prod(
        (1 if upper else -1) if axis in axes else (fraction if upper else 1 - fraction)
        for axis, (upper, fraction) in enumerate(zip(corner, fractions, strict=True))
    )
