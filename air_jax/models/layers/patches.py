"""Images to patches and back (paper section 2.1, Fig. 1 step (a)), for any number of spatial axes and any size."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.runtime.xla_layout import in_order


def patchify(image: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Cuts an image into non-overlapping patches, only by reshapes and a transposition.

    Args:
      image: `[B, *S, C]`, each spatial size a multiple of its patch size.
      patch_size: patch size in voxels along each spatial axis.

    Returns:
      `[B, *G, P]` with `G = S / patch_size` and `P = prod(patch_size) * C`.
    """
    batch, *shape, channels = image.shape
    grid = [size // patch for size, patch in zip(shape, patch_size, strict=True)]
    # Few axes transpose fast: the batch joins the first axis of the grid, the channels join the last one of the patch.
    split = [n for pair in zip(grid, patch_size, strict=True) for n in pair]
    blocks = image.reshape(batch * split[0], *split[1:-1], split[-1] * channels)
    blocks = in_order(blocks.transpose(*range(0, 2 * len(shape), 2), *range(1, 2 * len(shape), 2)))
    return blocks.reshape(batch, *grid, -1)


def unpatchify(patches: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Inverts `patchify`: `[B, *G, prod(patch_size) * C]` to `[B, *(G * patch_size), C]`."""
    batch, *grid, _ = patches.shape
    num_axes = len(grid)
    blocks = patches.reshape(batch * grid[0], *grid[1:], *patch_size[:-1], -1)
    blocks = in_order(blocks.transpose([axis for n in range(num_axes) for axis in (n, num_axes + n)]))
    return blocks.reshape(batch, *(g * p for g, p in zip(grid, patch_size, strict=True)), -1)


def overlapping_patches(image: jax.Array, stride: Sequence[int], size: Sequence[int]) -> jax.Array:
    """Cuts an image into overlapping patches, each centred on a cell of the grid.

    Args:
      image: `[B, *S, C]`, each spatial size a multiple of its stride. Beyond the border the last voxel is repeated.
      stride: voxels between patches along each spatial axis.
      size: patch size along each spatial axis, an odd multiple of the stride.

    Returns:
      `[B, *G, P]` with `G = S / stride` and `P = prod(size) * C`. If `size == stride`, it equals `patchify`.

    Raises:
      ValueError: a size is not an odd multiple of its stride.
    """
    counts = [s // step for s, step in zip(size, stride, strict=True)]
    if any(s != step * count or count % 2 == 0 for s, step, count in zip(size, stride, counts, strict=True)):
        raise ValueError(f"patches of size {tuple(size)} must be odd multiples of their stride {tuple(stride)}")
    margins = [(step * (count // 2),) * 2 for step, count in zip(stride, counts, strict=True)]
    cells = patchify(jnp.pad(image, [(0, 0), *margins, (0, 0)], mode="edge"), stride)
    grid = [n - count + 1 for n, count in zip(cells.shape[1:-1], counts, strict=True)]
    offsets = itertools.product(*(range(count) for count in counts))
    shifted = [
        cells[(slice(None), *(slice(start, start + n) for start, n in zip(offset, grid, strict=True)))]
        for offset in offsets
    ]
    return jnp.concatenate(shifted, axis=-1)
