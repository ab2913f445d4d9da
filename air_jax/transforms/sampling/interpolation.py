"""Linear interpolation and its adjoint as JAX primitives, closed under differentiation to any order.

Let `w_c(x)` be the weight of corner `c` of the cell around coordinates `x`, and `v_c(x)` the voxel there. For a set `A`
of axes there are two linear maps:

    gather:   (S_A v)(p) = sum_c  d_A w_c(x_p)  v[v_c(x_p)]            d_A: derivative along each axis in A
    scatter:  (T_A g)[q] = sum over p, c with v_c(x_p) = q of  d_A w_c(x_p) g(p)

`S_{}` is interpolation. A weight is linear along each axis, so

    d/dx_b S_A = S_{A + b}   for b not in A, else 0          (S_A)^T = T_A

and the same holds for `T_A`. No other map is needed for derivatives of any order, forward or reverse.
JAX can differentiate `map_coordinates` itself, but then reads each corner again for each component, and scatters into a
separate array for each corner. Here one map gives the value and all slopes, as computed by `gather_scatter.py`, or for
few channels on a GPU by `gather_scatter_gpu.py`. The value without slopes is `map_coordinates`. The maps are
primitives, because nothing else in JAX lets a linear map define its own transpose and be differentiated further.

In the code `points` stands for `x`: `x_p = p + points(p)` if they are `relative`, a displacement from their own grid,
else `x_p = points(p)`. The grid of the points `S` and that of the voxels `V` may differ.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jax.scipy.ndimage import map_coordinates

from air_jax.runtime.primitives import make_primitive
from air_jax.transforms.sampling import gather_scatter, gather_scatter_gpu
from air_jax.transforms.sampling.cells import AxisSets

# Largest number of channels for which a GPU uses a single loop, and for which sums over channels are written out. It
# lies between the measured numbers: 1 to 3 channels, which gain from both, and 33, which lose (experiments/benchmark).
FEW_CHANNELS = 4


def interpolate(volumes: jax.Array, points: jax.Array, *, mode: str, relative: bool) -> jax.Array:
    """Interpolates volumes linearly. Differentiable in volumes and points, to any order.

    Args:
      volumes: `[B, *V, C]`, float.
      points: `[B, *S, N]` float32, in voxels of the volumes: displacements from the points' own grid if `relative`,
        else coordinates.
      mode: one of `cells.MODES`, see `air_jax.warp`.
      relative: the meaning of `points`.

    Returns:
      `[B, *S, C]`, in the dtype of `volumes`.
    """
    # Without the barrier, XLA fuses the computation of both into the gather and repeats it for every corner.
    volumes, points = jax.lax.optimization_barrier((volumes, points))
    return _gather(volumes, points, axis_sets=((),), mode=mode, relative=relative)[0]


# ---- The two maps ----------------------------------------------------------------------------------------------------


def _gather(
    volumes: jax.Array, points: jax.Array, *, axis_sets: AxisSets, mode: str, relative: bool
) -> list[jax.Array]:
    """`S_A volumes`, with volumes `[B, *V, C]`, for each `A` of `axis_sets`: `[B, *S, C]` each."""
    return gather_p.bind(volumes, points, axis_sets=axis_sets, mode=mode, relative=relative)


def _scatter(
    values: Sequence[jax.Array],
    points: jax.Array,
    *,
    axis_sets: AxisSets,
    mode: str,
    relative: bool,
    shape: tuple[int, ...],
) -> jax.Array:
    """Sum of `T_A values` over `axis_sets`, with values `[B, *S, C]` for each: `[B, *V, C]`, with `V = shape`."""
    return scatter_p.bind(*values, points, axis_sets=axis_sets, mode=mode, relative=relative, shape=shape)


def _gather_impl(volumes, points, *, axis_sets, mode, relative, general=gather_scatter.gather):
    if axis_sets == ((),):
        return [_map_coordinates(volumes, points, mode, relative)]
    return general(volumes, points, axis_sets=axis_sets, mode=mode, relative=relative)


_gather_on_cpu = partial(_gather_impl, general=partial(gather_scatter.gather, on_cpu=True))


def _gather_on_gpu(volumes, points, **options):
    # For a single channel, a GPU computes the slopes of large volumes faster the general way.
    single = volumes.shape[-1] != 1 and _suits_single_loop(volumes.shape, points.shape)
    return _gather_impl(volumes, points, **options, general=(gather_scatter_gpu if single else gather_scatter).gather)


def _scatter_impl(*arguments, general=gather_scatter.scatter, **options):
    *values, points = arguments
    return general(values, points, **options)


_scatter_on_cpu = partial(_scatter_impl, general=partial(gather_scatter.scatter, on_cpu=True))


def _scatter_on_gpu(*arguments, **options):
    *values, points = arguments
    single = _suits_single_loop((points.shape[0], *options["shape"], values[0].shape[-1]), points.shape)
    return _scatter_impl(*arguments, **options, general=(gather_scatter_gpu if single else gather_scatter).scatter)


def _suits_single_loop(shape: Sequence[int], points_shape: Sequence[int]) -> bool:
    """Whether `gather_scatter_gpu` suits volumes `[B, *V, C]` and points `[B, *S, N]`; not where sizes are symbols."""
    *_, channels = shape
    *points, num_axes = points_shape
    if not all(isinstance(size, int) for size in (*shape, *points)):
        return False
    largest = max(math.prod(shape), math.prod(points) * channels * 2**num_axes)  # elements of its loops
    return channels <= FEW_CHANNELS and largest < np.iinfo(np.int32).max


def _map_coordinates(volumes: jax.Array, points: jax.Array, mode: str, relative: bool) -> jax.Array:
    """JAX's own interpolation, written so that XLA makes one loop of it, which reads all corners of a voxel."""

    def sample(volume, points):
        # Axis by axis: XLA would write stacked coordinates to memory first.
        coordinates = [points[..., axis] for axis in range(volume.ndim)]
        if relative:
            grid = [jax.lax.broadcasted_iota(jnp.float32, points.shape[:-1], axis) for axis in range(volume.ndim)]
            coordinates = [place + offset for place, offset in zip(grid, coordinates, strict=True)]
        return map_coordinates(volume, coordinates, order=1, mode=mode)

    if volumes.shape[-1] == 1:  # without the channel axis, because XLA would gather slices along it
        return jax.vmap(sample)(volumes[..., 0], points)[..., None]
    return jax.vmap(jax.vmap(sample, in_axes=(-1, None), out_axes=-1))(volumes, points)


# ---- Their derivatives -----------------------------------------------------------------------------------------------


def _gather_jvp(primals, tangents, *, axis_sets, mode, relative):
    volumes, points = primals
    volumes_dot, points_dot = tangents
    wanted, num_axes = list(axis_sets), points.shape[-1]
    if not isinstance(points_dot, ad.Zero):
        wanted += [(*axes, b) for axes in axis_sets for b in range(num_axes) if b not in axes]
    wanted = list(dict.fromkeys(tuple(sorted(axes)) for axes in wanted))
    found = dict(
        zip(wanted, _gather(volumes, points, axis_sets=tuple(wanted), mode=mode, relative=relative), strict=True)
    )
    values = [found[axes] for axes in axis_sets]
    tangents_out = [jnp.zeros_like(value) for value in values]
    if not isinstance(volumes_dot, ad.Zero):
        tangents_out = _gather(volumes_dot, points, axis_sets=axis_sets, mode=mode, relative=relative)
    if not isinstance(points_dot, ad.Zero):
        for index, axes in enumerate(axis_sets):
            slopes = {b: found[tuple(sorted((*axes, b)))] for b in range(num_axes) if b not in axes}
            tangents_out[index] = tangents_out[index] + _moved(slopes, points_dot)
    return values, tangents_out


def _moved(slopes: dict[int, jax.Array], points_dot: jax.Array) -> jax.Array | float:
    """`sum_b slope_b * points_dot_b`, from slopes `[B, *S, C]` along axes `b` and a tangent `[B, *S, N]`."""
    if not slopes:
        return 0.0
    axes, arrays = zip(*slopes.items(), strict=True)
    dtype, channels = arrays[0].dtype, arrays[0].shape[-1]
    if channels > FEW_CHANNELS:
        return sum(slope * points_dot[..., axis, None].astype(dtype) for axis, slope in slopes.items())
    every = len(axes) == points_dot.shape[-1]
    along = points_dot if every else jnp.stack([points_dot[..., axis] for axis in axes], axis=-1)
    along = along.astype(dtype)
    # Channel by channel: the transpose then needs no separate pass to sum over channels.
    stacked = jnp.stack(arrays, axis=-1)
    return jnp.stack([(stacked[..., channel, :] * along).sum(-1) for channel in range(channels)], axis=-1)


def _gather_transpose(cotangents, volumes, points, *, axis_sets, mode, relative):
    given = [(axes, ct) for axes, ct in zip(axis_sets, cotangents, strict=True) if not isinstance(ct, ad.Zero)]
    if not given:
        return ad.Zero(volumes.aval), None
    sets, values = zip(*given, strict=True)
    shape = volumes.aval.shape[1:-1]
    return _scatter(values, points, axis_sets=sets, mode=mode, relative=relative, shape=shape), None


def _scatter_jvp(primals, tangents, *, axis_sets, mode, relative, shape):
    *values, points = primals
    *values_dot, points_dot = tangents
    terms = [(axes, dot) for axes, dot in zip(axis_sets, values_dot, strict=True) if not isinstance(dot, ad.Zero)]
    if not isinstance(points_dot, ad.Zero):
        for axes, value in zip(axis_sets, values, strict=True):
            for b in sorted(set(range(points.shape[-1])) - set(axes)):
                moved = value * points_dot[..., b, None].astype(value.dtype)
                terms.append((tuple(sorted((*axes, b))), moved))
    total = _scatter(values, points, axis_sets=axis_sets, mode=mode, relative=relative, shape=shape)
    if not terms:
        return total, jnp.zeros_like(total)
    sets, moved = zip(*terms, strict=True)
    return total, _scatter(moved, points, axis_sets=sets, mode=mode, relative=relative, shape=shape)


def _scatter_transpose(cotangent, *arguments, axis_sets, mode, relative, shape):
    del shape
    *values, points = arguments
    if isinstance(cotangent, ad.Zero):
        return [None] * len(arguments)
    linear = [ad.is_undefined_primal(value) for value in values]
    sets = tuple(axes for axes, wanted in zip(axis_sets, linear, strict=True) if wanted)
    found = iter(_gather(cotangent, points, axis_sets=sets, mode=mode, relative=relative))
    return [next(found) if wanted else None for wanted in linear] + [None]


def _gather_abstract(volumes, points, *, axis_sets, mode, relative):
    del mode, relative
    return [volumes.update(shape=(*points.shape[:-1], volumes.shape[-1]))] * len(axis_sets)


def _scatter_abstract(*arguments, axis_sets, mode, relative, shape):
    del axis_sets, mode, relative
    return arguments[0].update(shape=(arguments[0].shape[0], *shape, arguments[0].shape[-1]))


# The choice of an implementation is made for the platform that a program is lowered for.
gather_p = make_primitive(
    "air_jax_gather",
    _gather_impl,
    _gather_abstract,
    multiple_results=True,
    by_platform={"cpu": _gather_on_cpu, "gpu": _gather_on_gpu},
)
ad.primitive_jvps[gather_p] = _gather_jvp
ad.primitive_transposes[gather_p] = _gather_transpose
scatter_p = make_primitive(
    "air_jax_scatter",
    _scatter_impl,
    _scatter_abstract,
    multiple_results=False,
    by_platform={"cpu": _scatter_on_cpu, "gpu": _scatter_on_gpu},
)
ad.primitive_jvps[scatter_p] = _scatter_jvp
ad.primitive_transposes[scatter_p] = _scatter_transpose
