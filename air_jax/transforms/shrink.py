"""Images on coarser grids."""

from collections.abc import Sequence

import jax


def shrink(image: jax.Array, shape: Sequence[int]) -> jax.Array:
    """`[B, *S, C]` averaged onto a coarser grid `S'` over the same extent: `[B, *S', C]`.

    Voxels are cells, as in `air_jax.transforms.resize`. The same size returns the image itself.
    """
    if image.shape[1:-1] == tuple(shape):
        return image
    return jax.image.resize(image, (len(image), *shape, image.shape[-1]), method="linear", antialias=True)
