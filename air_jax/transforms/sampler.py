"""The sampler of the spatial transformer (paper section 2.1; Jaderberg et al. 2015, section 3.3)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from air_jax.transforms.grid import identity_grid
from air_jax.transforms.interpolation import MODES, interpolate


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
    displacement = displacement.astype(jnp.float32)
    volumes = image[..., None] if image.ndim < displacement.ndim else image
    if order == 1 and jnp.issubdtype(image.dtype, jnp.floating):
        warped = interpolate(volumes, displacement, mode)
    else:
        warped = _sample(volumes, identity_grid(displacement.shape[1:-1])[None] + displacement, order, mode)
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
    """Samples `volumes` `[B, *S, C]` of any dtype at `coordinates` `[B, *S, N]`."""

    def sample(volume, coordinates):
        return map_coordinates(volume, list(jnp.moveaxis(coordinates, -1, 0)), order=order, mode=mode)

    return jax.vmap(jax.vmap(sample, in_axes=(-1, None), out_axes=-1))(volumes, coordinates)
