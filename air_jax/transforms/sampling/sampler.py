"""The sampler of the spatial transformer (paper section 2.1; Jaderberg et al. 2015, section 3.3)."""

from functools import partial

import jax
import jax.numpy as jnp

from air_jax.checks import check_arrays, check_choice, check_integers, is_integer, require
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.sampling.cells import MODES, coordinates_of
from air_jax.transforms.sampling.interpolation import interpolate
from air_jax.transforms.sampling.nearest import nearest


@on_any_mesh
def warp(image: jax.Array, displacement: jax.Array, order: int = 1, mode: str = "constant") -> jax.Array:
    """Samples an image where a pull-back displacement points: `warped(p) = image(p + u(p))`.

    A zero displacement returns the image to the last bit. The result is differentiable in both arguments, to any order.
    At integer coordinates the derivative is the one-sided one towards larger coordinates.

    Args:
      image: `[B, *S, C]`, or `[B, *S]` (a segmentation), any dtype.
      displacement: `[B, *S, N]` float32, voxel units, array-index order, `N = len(S)`.
      order: 1 (default) interpolates linearly. 0 takes the nearest voxel, halfway the one with the larger index like
        SciPy, and is exact for every dtype.
      mode: values outside the image. `constant` (default): zeros, reached over one voxel. `nearest`, `mirror`,
        `reflect`, `wrap`: as in `jax.scipy.ndimage.map_coordinates`. `constant` and `wrap` are the modes
        `grid-constant` and `grid-wrap` of SciPy.

    Returns:
      The warped image, in the shape and dtype of `image`. Order 1 therefore rounds an integer image to the nearest
      integers, halves away from zero, and computes it in float32; convert such an image to float32 to keep fractions.

    Raises:
      ValueError: the shapes do not fit each other, or the image has 64-bit integers that JAX would cut off.
      OptionError: `order` or `mode` is unknown.
      TypeError: an argument is no array.

    Examples:
      >>> image = jnp.arange(64.0).reshape(1, 8, 8, 1)
      >>> displacement = jnp.zeros((1, 8, 8, 2)).at[..., 0].set(1.0)
      >>> air_jax.warp(image, displacement)[0, :, 0, 0].tolist()
      [8.0, 16.0, 24.0, 32.0, 40.0, 48.0, 56.0, 0.0]
    """
    check_arrays("warp", "fiubc", image=image)
    check_arrays("warp", "fiub", displacement=displacement)
    check_integers("warp", image=image)
    _check_options(order, mode)
    return _warp(image, displacement, order=order, mode=mode)


@on_any_mesh
def sample(image: jax.Array, coordinates: jax.Array, *, order: int = 1, mode: str = "constant") -> jax.Array:
    """Samples an image at coordinates of its own voxels, on any grid of points: `sampled(p) = image(x(p))`.

    It is differentiable like `warp`, which is this function at `grid + displacement`.

    Args:
      image: `[B, *V, C]`, or `[B, *V]` (a segmentation), any dtype.
      coordinates: `[B, *S, N]` float32, in voxels of the image, array-index order, `N = len(V) = len(S)`.
      order: 1 (default) or 0, see `warp`.
      mode: values outside the image, see `warp`.

    Returns:
      `[B, *S, C]` or `[B, *S]`, in the dtype of `image`; for integer images see `warp`.

    Raises:
      ValueError: the shapes do not fit each other, or the image has 64-bit integers that JAX would cut off.
      OptionError: `order` or `mode` is unknown.
      TypeError: an argument is no array.

    Examples:
      >>> image = jnp.arange(64.0).reshape(1, 8, 8, 1)
      >>> air_jax.transforms.sample(image, jnp.array([[[[2.0, 0.5]]]])).tolist()
      [[[[16.5]]]]
    """
    check_arrays("sample", "fiubc", image=image)
    check_arrays("sample", "fiub", coordinates=coordinates)
    check_integers("sample", image=image)
    _check_options(order, mode)
    return _sample(image, coordinates, order=order, mode=mode)


@partial(jax.jit, static_argnames=("order", "mode"))
def _warp(image, displacement, order, mode):
    _check_warp(image, displacement)
    return _sample_points(image, displacement.astype(jnp.float32), order, mode, relative=True)


@partial(jax.jit, static_argnames=("order", "mode"))
def _sample(image, coordinates, order, mode):
    num_axes = coordinates.shape[-1] if coordinates.ndim else 0
    fits = coordinates.ndim == num_axes + 2 and image.ndim in (num_axes + 1, num_axes + 2)
    if not fits or image.shape[0] != coordinates.shape[0]:
        raise ValueError(
            f"sample: image of shape {image.shape} does not fit coordinates of shape {coordinates.shape}; "
            "they must be [B, *V, C] or [B, *V] and [B, *S, N], with as many axes V and S as components N"
        )
    return _sample_points(image, coordinates.astype(jnp.float32), order, mode, relative=False)


def _check_warp(image: jax.Array, displacement: jax.Array) -> None:
    """Raises a `ValueError` of one line when `warp` cannot take these arguments."""
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


def _check_options(order: int, mode: str) -> None:
    """Checks the options before JAX makes them parts of a program, for which they must be hashable."""
    require(is_integer(order) and order in (0, 1), "order", order, "must be 0 (nearest) or 1 (linear)")
    check_choice("mode", mode, MODES)


def _sample_points(image: jax.Array, points: jax.Array, order: int, mode: str, *, relative: bool) -> jax.Array:
    """Samples `image` `[B, *V, C]` or `[B, *V]` at `points` `[B, *S, N]`.

    Args:
      image: any dtype.
      points: float32, in voxels. If `relative`, displacements from the points' own grid, else coordinates. Coordinates
        are never turned into displacements, because float32 loses their digits far along the grid.
      order: 0 or 1.
      mode: one of `MODES`.
      relative: the meaning of `points`.
    """
    volumes = image[..., None] if image.ndim < points.ndim else image
    if order == 0:
        sampled = nearest(volumes, coordinates_of(points, relative), mode)
    else:
        sampled = _linear(volumes, points, mode, relative)
    return sampled.reshape(*points.shape[:-1], *image.shape[points.ndim - 1 :])


def _linear(volumes: jax.Array, points: jax.Array, mode: str, relative: bool) -> jax.Array:
    """Interpolates `volumes` `[B, *V, C]` of any dtype."""
    dtype = volumes.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return interpolate(volumes, points, mode=mode, relative=relative)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = (interpolate(part, points, mode=mode, relative=relative) for part in (volumes.real, volumes.imag))
        return jax.lax.complex(*parts)
    values = interpolate(volumes.astype(jnp.float32), points, mode=mode, relative=relative)
    return jax.lax.round(values, jax.lax.RoundingMethod.AWAY_FROM_ZERO).astype(dtype)
