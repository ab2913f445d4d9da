"""Images to patches and back (paper section 2.1, Fig. 1 step (a)), for any number of spatial axes and any size."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def pad_to_patches(image: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Repeats the last voxels of `[B, *S, C]` along each axis until patches of `patch_size` tile the image."""
    widths = [(0, -size % patch) for size, patch in zip(image.shape[1:-1], patch_size, strict=True)]
    return jnp.pad(image, [(0, 0), *widths, (0, 0)], mode="edge")


def patchify(image: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Cuts an image into non-overlapping patches, by reshapes alone.

    Args:
      image: `[B, *S, C]`, each spatial size a multiple of its patch size.
      patch_size: patch size in voxels along each spatial axis.

    Returns:
      `[B, *G, P]` with `G = S / patch_size` and `P = prod(patch_size) * C`.
    """
    batch, *shape, channels = image.shape
    num_axes = len(shape)
    split = [n for size, patch in zip(shape, patch_size, strict=True) for n in (size // patch, patch)]
    blocks = image.reshape(batch, *split, channels)
    grid_axes = [1 + 2 * axis for axis in range(num_axes)]
    patch_axes = [2 + 2 * axis for axis in range(num_axes)]
    blocks = blocks.transpose(0, *grid_axes, *patch_axes, 2 * num_axes + 1)
    return blocks.reshape(*blocks.shape[: num_axes + 1], -1)


def unpatchify(patches: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Inverse of `patchify`: `[B, *G, prod(patch_size) * C]` to `[B, *(G * patch_size), C]`."""
    batch, *grid, _ = patches.shape
    num_axes = len(grid)
    blocks = patches.reshape(batch, *grid, *patch_size, -1)
    order = [axis for n in range(num_axes) for axis in (1 + n, 1 + num_axes + n)]
    blocks = blocks.transpose(0, *order, 2 * num_axes + 1)
    return blocks.reshape(batch, *(g * p for g, p in zip(grid, patch_size, strict=True)), -1)
