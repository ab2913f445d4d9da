"""Linear interpolation and its adjoint as JAX primitives, closed under differentiation to any order.

Write `w_c(x)` for the weight of corner `c` of the cell around coordinates `x`, and `v_c(x)` for the voxel there. With a
set `A` of axes, two linear maps take part:

    gather:   (S_A v)(p) = sum_c  d_A w_c(x_p)  v[v_c(x_p)]            d_A: derivative along each axis in A
    scatter:  (T_A g)[q] = sum over p, c with v_c(x_p) = q of  d_A w_c(x_p) g(p)

`S_{}` is interpolation. A weight is linear along each axis, so

    d/dx_b S_A = S_{A + b}   for b not in A, else 0          (S_A)^T = T_A

and the same for `T_A`: no other map is needed, whatever is differentiated, forward or reverse, however often.
JAX finds derivatives of `map_coordinates` by itself, but reads each corner anew for each component and scatters into an
array of its own for each corner. Here one map gives the value and all slopes (the value alone is `map_coordinates`), as
`gather_scatter.py` computes them, or for few channels on a GPU `gather_scatter_gpu.py`. They are primitives, because
nothing else in JAX lets a linear map have a transpose of its own and be differentiated further. In the code a
displacement stands for `x`: `x_p = p + displacement(p)`; the grid of the points `S` and that of the voxels `V` may
differ.
"""

import math
from collections.abc import Sequence
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jax.scipy.ndimage import map_coordinates

from air_jax.runtime.primitives import make_primitive
from air_jax.transforms.sampling import gather_scatter, gather_scatter_gpu
from air_jax.transforms.sampling.cells import AxisSets

# The most for which a GPU has one loop over all, and for which sums over channels are written out. Measured were 1 to
# 3 channels, which both serve, and 33, which neither does (experiments/benchmark).
FEW_CHANNELS = 4


def interpolate(volumes: jax.Array, displacement: jax.Array, mode: str) -> jax.Array:
    """Linear interpolation of `volumes` `[B, *V, C]` where `displacement` `[B, *S, N]`, float32, points: `[B, *S, C]`.

    Differentiable in both, to any order. `mode` is one of `cells.MODES`, see `air_jax.warp`.
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
    # Of a single channel the slopes of large volumes take a GPU less time the general way.
    general = volumes.shape[-1] == 1
    implementation = gather_scatter if general else _implementation(volumes.shape, displacement.shape)
    return implementation.gather(volumes, displacement, axis_sets=axis_sets, mode=mode)


def _scatter_impl(*arguments, axis_sets, mode, shape):
    *values, displacement = arguments
    implementation = _implementation((len(displacement), *shape, values[0].shape[-1]), displacement.shape)
    return implementation.scatter(values, displacement, axis_sets=axis_sets, mode=mode, shape=shape)


def _implementation(shape: Sequence[int], points_shape: Sequence[int]) -> ModuleType:
    """The module that computes the maps fastest here, between volumes `[B, *V, C]` and points `[B, *S, N]`."""
    *_, channels = shape
    *points, num_axes = points_shape
    largest = max(math.prod(shape), math.prod(points) * channels * 2**num_axes)  # its loops have no pieces
    suits = channels <= FEW_CHANNELS and largest < np.iinfo(np.int32).max
    return gather_scatter_gpu if suits and jax.default_backend() == "gpu" else gather_scatter


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
            slopes = {b: found[tuple(sorted((*axes, b)))] for b in range(num_axes) if b not in axes}
            tangents_out[index] = tangents_out[index] + _moved(slopes, displacement_dot)
    return values, tangents_out


def _moved(slopes: dict[int, jax.Array], displacement_dot: jax.Array) -> jax.Array | float:
    """`sum_b slope_b * displacement_dot_b`, from slopes `[B, *S, C]` along axes `b` and a tangent `[B, *S, N]`."""
    if not slopes:
        return 0.0
    axes, arrays = zip(*slopes.items(), strict=True)
    dtype, channels = arrays[0].dtype, arrays[0].shape[-1]
    if channels > FEW_CHANNELS:
        return sum(slope * displacement_dot[..., axis, None].astype(dtype) for axis, slope in slopes.items())
    every = len(axes) == displacement_dot.shape[-1]
    along = displacement_dot if every else jnp.stack([displacement_dot[..., axis] for axis in axes], axis=-1)
    along = along.astype(dtype)
    # Channel by channel: the transpose then sums over them without a pass of its own.
    stacked = jnp.stack(arrays, axis=-1)
    return jnp.stack([(stacked[..., channel, :] * along).sum(-1) for channel in range(channels)], axis=-1)


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
