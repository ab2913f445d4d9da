"""Linear interpolation and its adjoint as JAX primitives, closed under differentiation to any order.

Write `w_c(x)` for the weight of corner `c` of the cell around coordinates `x`, and `v_c(x)` for the voxel there. With a
set `A` of axes, two linear maps take part:

    gather:   (S_A v)(p) = sum_c  d_A w_c(x_p)  v[v_c(x_p)]            d_A: derivative along each axis in A
    scatter:  (T_A g)[q] = sum over p, c with v_c(x_p) = q of  d_A w_c(x_p) g(p)

`S_{}` is interpolation. A weight is linear along each axis, so

    d/dx_b S_A = S_{A + b}   for b not in A, else 0          (S_A)^T = T_A

and the same for `T_A`: no other map is needed, whatever is differentiated, forward or reverse, however often.
JAX finds derivatives of `map_coordinates` by itself, but reads each corner anew for each component and scatters into an
array of its own for each corner; here one pass over the corners gives the value and all slopes (the value alone is
`map_coordinates`). They are primitives, because nothing else in JAX lets a linear map have a transpose of its own and
be differentiated further. In the code a displacement stands for `x`: `x_p = p + displacement(p)`; the grid of the
points `S` and that of the voxels `V` may differ.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jax.scipy.ndimage import map_coordinates

from air_jax.layout import apart, in_order
from air_jax.primitives import make_primitive
from air_jax.transforms.grid import identity_grid

MODES = ("constant", "nearest", "mirror", "reflect", "wrap")
# For derivatives on a CPU, points are taken in pieces whose corners and weights stay in the cache; else all at once.
POINTS_AT_ONCE = 2**15

AxisSets = tuple[tuple[int, ...], ...]


def interpolate(volumes: jax.Array, displacement: jax.Array, mode: str) -> jax.Array:
    """Linear interpolation of `volumes` `[B, *V, C]` where `displacement` `[B, *S, N]`, float32, points: `[B, *S, C]`.

    Differentiable in both, to any order. `mode` is one of `MODES`, see `air_jax.warp`.
    """
    # Fused into the gather, what makes the two would be computed anew for every corner.
    volumes, displacement = jax.lax.optimization_barrier((volumes, displacement))
    return _gather(volumes, displacement, axis_sets=((),), mode=mode)[0]


# ---- The two maps ----------------------------------------------------------------------------------------------------


def _gather(volumes: jax.Array, displacement: jax.Array, *, axis_sets: AxisSets, mode: str) -> list[jax.Array]:
    """`S_A volumes`, with volumes `[B, *V, C]`, for each `A` of `axis_sets`: `[B, *S, C]` each."""
    return gather_p.bind(volumes, displacement, axis_sets=axis_sets, mode=mode)


def _scatter(
    values: Sequence[jax.Array], displacement: jax.Array, *, axis_sets: AxisSets, mode: str, shape: tuple[int, ...]
) -> jax.Array:
    """The sum of `T_A values` over `axis_sets`, with values `[B, *S, C]` for each: `[B, *V, C]`, with `V = shape`."""
    return scatter_p.bind(*values, displacement, axis_sets=axis_sets, mode=mode, shape=shape)


def _gather_impl(volumes, displacement, *, axis_sets, mode):
    if axis_sets == ((),):
        return [_map_coordinates(volumes, displacement, mode)]
    batch, *shape, channels = volumes.shape
    points, unite = _pieces(identity_grid(displacement.shape[1:-1])[None] + displacement)
    voxels = _pad(volumes, mode).reshape(-1, channels)
    if channels == 1:
        voxels = voxels[:, 0]
    starts = _starts(points.shape, batch, shape, mode)

    def take(piece):
        indices, fractions = _cell(*piece, shape, mode)
        corners = {
            corner: voxels.at[index].get(mode="promise_in_bounds") for corner, index in _corners(indices).items()
        }
        if channels > 1:
            fractions = [fraction[..., None] for fraction in fractions]
        return [_contract(corners, fractions, axes) for axes in axis_sets]

    found = _each(take, (points, starts))
    return [unite(array).reshape(*displacement.shape[:-1], channels).astype(volumes.dtype) for array in found]


def _scatter_impl(*arguments, axis_sets, mode, shape):
    *values, displacement = arguments
    batch, channels = len(values[0]), values[0].shape[-1]
    points, _ = _pieces(identity_grid(displacement.shape[1:-1])[None] + displacement)
    starts = _starts(points.shape, batch, shape, mode)
    dtype = jnp.promote_types(values[0].dtype, jnp.float32)
    values = [_pieces(value.astype(dtype))[0] for value in values]
    padded = _padded_shape(shape, mode)
    sums = jnp.zeros((batch * math.prod(padded), channels)[: 1 + (channels > 1)], dtype)

    def add(sums, piece):
        points, starts, *values = piece
        indices, fractions = _cell(points, starts, shape, mode)
        if channels == 1:
            values = [value[..., 0] for value in values]
        else:
            fractions = [fraction[..., None] for fraction in fractions]
        for corner, index in _corners(indices).items():
            update = sum(_weight(corner, fractions, axes) * v for axes, v in zip(axis_sets, values, strict=True))
            # Otherwise XLA's CPU compiler computes index and weight anew for each element, one by one.
            index, update = apart((index, update))
            sums = sums.at[index].add(update, mode="promise_in_bounds")
        return sums, None

    if len(points) == 1:
        sums, _ = add(sums, jax.tree.map(lambda array: array[0], (points, starts, *values)))
    else:
        sums, _ = jax.lax.scan(add, sums, (points, starts, *values))
    sums = sums.reshape(batch, *padded, channels)
    if mode == "constant":
        sums = sums[(slice(None), *(slice(1, -1) for _ in shape))]
    return sums.astype(arguments[0].dtype)


def _map_coordinates(volumes: jax.Array, displacement: jax.Array, mode: str) -> jax.Array:
    """JAX's own interpolation, written such that all becomes one loop, which reads all corners of a voxel."""

    def sample(volume, displacement):
        # Axis by axis: stacked coordinates would go through memory first.
        axes = range(volume.ndim)
        grid = [jax.lax.broadcasted_iota(jnp.float32, displacement.shape[:-1], axis) for axis in axes]
        return map_coordinates(volume, [grid[axis] + displacement[..., axis] for axis in axes], order=1, mode=mode)

    if volumes.shape[-1] == 1:  # without an axis of length 1, in which the compiler would gather slices
        return jax.vmap(sample)(volumes[..., 0], displacement)[..., None]
    return jax.vmap(jax.vmap(sample, in_axes=(-1, None), out_axes=-1))(volumes, displacement)


def _each(function, arguments):
    """`lax.map`, without a loop for a single one."""
    if len(jax.tree.leaves(arguments)[0]) == 1:
        found = function(jax.tree.map(lambda array: array[0], arguments))
        return jax.tree.map(lambda array: array[None], found)
    return jax.lax.map(function, arguments)


# ---- Points in pieces ------------------------------------------------------------------------------------------------


def _pieces(array: jax.Array):
    """`[B, *T, K]` to `[pieces, images, points, K]`: some images whole, or one in parts; and the way back."""
    batch, *rest, size = array.shape
    num_points = math.prod(rest)
    array = in_order(array).reshape(batch, num_points, size)
    if jax.default_backend() != "cpu" or batch * num_points <= POINTS_AT_ONCE:
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
    """Where the voxels of the image that each point belongs to begin: `[pieces, images, 1]`."""
    size = math.prod(_padded_shape(shape, mode))
    if batch * size > np.iinfo(np.int32).max:
        raise ValueError(f"warp: {batch} images of shape {tuple(shape)} hold too many voxels for one batch; split it")
    num_pieces, num_images = points_shape[:2]
    image = np.arange(num_pieces * num_images) // (num_pieces * num_images // batch)
    return jnp.asarray((image * size).reshape(num_pieces, num_images, 1), jnp.int32)


# ---- Cells and corners -----------------------------------------------------------------------------------------------


def _padded_shape(shape: Sequence[int], mode: str) -> tuple[int, ...]:
    """The zeros around a volume stand for all that lies outside, in the mode `constant`."""
    return tuple(size + 2 for size in shape) if mode == "constant" else tuple(shape)


def _pad(volumes: jax.Array, mode: str) -> jax.Array:
    volumes = volumes.astype(jnp.promote_types(volumes.dtype, jnp.float32))
    if mode != "constant":
        return volumes
    return in_order(jnp.pad(volumes, [(0, 0), *[(1, 1)] * (volumes.ndim - 2), (0, 0)]))


def _cell(points: jax.Array, starts: jax.Array, shape: Sequence[int], mode: str):
    """What each axis adds to the flat index of lower and of upper corners, and fractions: `[images, points]` each."""
    padded = _padded_shape(shape, mode)
    indices, fractions = [], []
    for axis, size in enumerate(padded):
        floor = jnp.floor(points[..., axis])
        fractions.append(points[..., axis] - floor)
        lower = floor.astype(jnp.int32)
        stride = math.prod(padded[axis + 1 :])
        indices.append([stride * _within(index, size, mode) for index in (lower, lower + 1)])
    indices[0] = [starts + index for index in indices[0]]
    # Otherwise XLA's CPU compiler computes them anew for each corner.
    return apart((indices, fractions))


def _within(index: jax.Array, size: int, mode: str) -> jax.Array:
    """The voxel along an axis of `size` that stands for `index`, which may lie outside."""
    if mode == "constant":
        return jnp.clip(index + 1, 0, size - 1)
    if mode == "nearest" or size == 1:
        return jnp.clip(index, 0, size - 1)
    if mode == "wrap":
        return index % size
    if mode == "mirror":
        return jnp.abs((index + size - 1) % (2 * size - 2) - (size - 1))
    period = index % (2 * size)  # reflect
    return jnp.minimum(period, 2 * size - 1 - period)


def _corners(indices: Sequence[Sequence[jax.Array]]) -> dict[tuple[int, ...], jax.Array]:
    """The flat index of each corner: 0 for lower, 1 for upper along each axis."""
    return {
        corner: sum(pair[upper] for pair, upper in zip(indices, corner, strict=True))
        for corner in itertools.product((0, 1), repeat=len(indices))
    }


def _contract(corners: dict, fractions: Sequence[jax.Array], axes: Sequence[int]) -> jax.Array:
    """`sum_c d_A w_c * corner_c`, axis by axis."""
    for axis, fraction in enumerate(fractions):
        rest = {corner[1:] for corner in corners}
        corners = {
            corner: (corners[1, *corner] - corners[0, *corner])
            if axis in axes
            else corners[0, *corner] + (corners[1, *corner] - corners[0, *corner]) * fraction
            for corner in rest
        }
    return corners[()]


def _weight(corner: Sequence[int], fractions: Sequence[jax.Array], axes: Sequence[int]) -> jax.Array | int:
    """`d_A w_c`."""
    return math.prod(
        (1 if upper else -1) if axis in axes else (fraction if upper else 1 - fraction)
        for axis, (upper, fraction) in enumerate(zip(corner, fractions, strict=True))
    )


# ---- Their derivatives -----------------------------------------------------------------------------------------------


def _gather_jvp(primals, tangents, *, axis_sets, mode):
    volumes, displacement = primals
    volumes_dot, displacement_dot = tangents
    wanted = list(axis_sets)
    if not isinstance(displacement_dot, ad.Zero):
        num_axes = displacement.shape[-1]
        wanted += [(*axes, b) for axes in axis_sets for b in range(num_axes) if b not in axes]
    wanted = list(dict.fromkeys(tuple(sorted(axes)) for axes in wanted))
    found = dict(zip(wanted, _gather(volumes, displacement, axis_sets=tuple(wanted), mode=mode), strict=True))
    values = [found[axes] for axes in axis_sets]
    tangents_out = [jnp.zeros_like(value) for value in values]
    if not isinstance(volumes_dot, ad.Zero):
        tangents_out = _gather(volumes_dot, displacement, axis_sets=axis_sets, mode=mode)
    if not isinstance(displacement_dot, ad.Zero):
        for index, axes in enumerate(axis_sets):
            for b in set(range(num_axes)) - set(axes):
                slope = found[tuple(sorted((*axes, b)))]
                moved = slope * displacement_dot[..., b, None].astype(slope.dtype)
                tangents_out[index] = tangents_out[index] + moved
    return values, tangents_out


def _gather_transpose(cotangents, volumes, displacement, *, axis_sets, mode):
    given = [(axes, ct) for axes, ct in zip(axis_sets, cotangents, strict=True) if not isinstance(ct, ad.Zero)]
    if not given:
        return ad.Zero(volumes.aval), None
    sets, values = zip(*given, strict=True)
    shape = volumes.aval.shape[1:-1]
    return _scatter(values, displacement, axis_sets=sets, mode=mode, shape=shape), None


def _scatter_jvp(primals, tangents, *, axis_sets, mode, shape):
    *values, displacement = primals
    *values_dot, displacement_dot = tangents
    terms = [(axes, dot) for axes, dot in zip(axis_sets, values_dot, strict=True) if not isinstance(dot, ad.Zero)]
    if not isinstance(displacement_dot, ad.Zero):
        for axes, value in zip(axis_sets, values, strict=True):
            for b in sorted(set(range(displacement.shape[-1])) - set(axes)):
                moved = value * displacement_dot[..., b, None].astype(value.dtype)
                terms.append((tuple(sorted((*axes, b))), moved))
    total = _scatter(values, displacement, axis_sets=axis_sets, mode=mode, shape=shape)
    if not terms:
        return total, jnp.zeros_like(total)
    sets, moved = zip(*terms, strict=True)
    return total, _scatter(moved, displacement, axis_sets=sets, mode=mode, shape=shape)


def _scatter_transpose(cotangent, *arguments, axis_sets, mode, shape):
    del shape
    *values, displacement = arguments
    if isinstance(cotangent, ad.Zero):
        return [None] * len(arguments)
    linear = [ad.is_undefined_primal(value) for value in values]
    sets = tuple(axes for axes, wanted in zip(axis_sets, linear, strict=True) if wanted)
    found = iter(_gather(cotangent, displacement, axis_sets=sets, mode=mode))
    return [next(found) if wanted else None for wanted in linear] + [None]


def _gather_abstract(volumes, displacement, *, axis_sets, mode):
    del mode
    return [volumes.update(shape=(*displacement.shape[:-1], volumes.shape[-1]))] * len(axis_sets)


def _scatter_abstract(*arguments, axis_sets, mode, shape):
    del axis_sets, mode
    return arguments[0].update(shape=(arguments[0].shape[0], *shape, arguments[0].shape[-1]))


gather_p = make_primitive("air_jax_gather", _gather_impl, _gather_abstract, multiple_results=True)
ad.primitive_jvps[gather_p] = _gather_jvp
ad.primitive_transposes[gather_p] = _gather_transpose
scatter_p = make_primitive("air_jax_scatter", _scatter_impl, _scatter_abstract, multiple_results=False)
ad.primitive_jvps[scatter_p] = _scatter_jvp
ad.primitive_transposes[scatter_p] = _scatter_transpose
