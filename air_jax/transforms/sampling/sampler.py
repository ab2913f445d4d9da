"""The sampler of the spatial transformer (paper section 2.1; Jaderberg et al. 2015, section 3.3)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from air_jax.transforms.grid import identity_grid
from air_jax.transforms.sampling.cells import MODES
from air_jax.transforms.sampling.interpolation import interpolate


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
    return _sample(image, displacement.astype(jnp.float32), order, mode)


@partial(jax.jit, static_argnames=("order", "mode"))
def sample(image: jax.Array, coordinates: jax.Array, order: int = 1, mode: str = "constant") -> jax.Array:
    """Samples an image at coordinates of its own voxels, on any grid of points: `sampled(p) = image(x(p))`.

    Differentiable as `warp` is, which is this at `grid + displacement`.

    Args:
      image: `[B, *V, C]`, or `[B, *V]` (labels). Any dtype; order 0 keeps integers exact.
      coordinates: `[B, *S, N]` float32, voxels of the image, array-index order, `N = len(V) = len(S)`.
      order, mode: see `warp`.

    Returns:
      `[B, *S, C]` or `[B, *S]`, in the dtype of `image`.

    Raises:
      ValueError: shapes do not fit each other, or `order` or `mode` is unknown.
    """
    num_axes = coordinates.shape[-1]
    if coordinates.ndim != num_axes + 2 or image.ndim not in (num_axes + 1, num_axes + 2):
        raise ValueError(
            f"sample: image of shape {image.shape} does not fit coordinates of shape {coordinates.shape}; "
            "they must be [B, *V, C] or [B, *V] and [B, *S, N], with as many axes V and S as components N"
        )
    _check_options("sample", order, mode)
    grid = identity_grid(coordinates.shape[1:-1])[None]
    return _sample(image, coordinates.astype(jnp.float32) - grid, order, mode)


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
    _check_options("warp", order, mode)


def _check_options(name: str, order: int, mode: str) -> None:
    if order not in (0, 1):
        raise ValueError(f"{name}: order is {order}; it must be 0 (nearest) or 1 (linear)")
    if mode not in MODES:
        raise ValueError(f"{name}: mode is {mode!r}; it must be one of {', '.join(MODES)}")


def _sample(image: jax.Array, displacement: jax.Array, order: int, mode: str) -> jax.Array:
    """Samples `image` `[B, *V, C]` or `[B, *V]` at `grid + displacement` `[B, *S, N]`."""
    volumes = image[..., None] if image.ndim < displacement.ndim else image
    if order == 1 and jnp.issubdtype(image.dtype, jnp.floating):
        sampled = interpolate(volumes, displacement, mode)
    else:
        coordinates = identity_grid(displacement.shape[1:-1])[None] + displacement
        sampled = _map_coordinates(volumes, coordinates, order, mode)
    return sampled.reshape(*displacement.shape[:-1], *image.shape[displacement.ndim - 1 :])


def _map_coordinates(volumes: jax.Array, coordinates: jax.Array, order: int, mode: str) -> jax.Array:
    """Samples `volumes` `[B, *V, C]` of any dtype at `coordinates` `[B, *S, N]`."""

    def one(volume, coordinates):
        return map_coordinates(volume, list(jnp.moveaxis(coordinates, -1, 0)), order=order, mode=mode)

    return jax.vmap(jax.vmap(one, in_axes=(-1, None), out_axes=-1))(volumes, coordinates)
