"""A reader of one image alone: which class of the anatomy each of its voxels is of."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.inputs import crop, pad_to_multiple
from air_jax.models.layers.patches import patchify, unpatchify

NAME = "segmenter"  # of its parameters among those of a model that has one
PATCH_SIZE = 2  # voxels along each axis: patches that hold all of them are fewer and wider than voxels


class Segmenter(nn.Module):
    """Classifies the voxels of an image: a U-Net (Ronneberger et al. 2015) whose voxels are patches of voxels.

    Every voxel is read, as one of its patch's first channels, and classified, as one of its last. Convolutions run
    along one axis after the other, each a matrix product with three neighbours: a third of the arithmetic of whole ones
    in 3-D, and quick on every device.

    Attributes:
      num_classes: K, the background among them.
      features: of each level, fine to coarse; the resolution halves between them.
      dtype: dtype of the features. Parameters and logits are float32.
    """

    num_classes: int
    features: Sequence[int] = (24, 64, 128, 128)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Returns logits `[B, *S, K]`, float32, of images `[B, *S, C]` in [0, 1], 2-D or 3-D, any size."""
        num_axes = image.ndim - 2
        patch_size, two = (PATCH_SIZE,) * num_axes, (2,) * num_axes

        def convolve(x, features):
            for axis in range(1, num_axes + 1):
                x = nn.Dense(features, use_bias=False, dtype=self.dtype)(_neighbours(x, axis))
            # Over the image's own patches, feature by feature: batches of volumes are small.
            return nn.leaky_relu(nn.GroupNorm(num_groups=None, group_size=1, dtype=self.dtype)(x), 0.1)

        x = patchify(pad_to_multiple(image, [size * 2 ** (len(self.features) - 1) for size in patch_size]), patch_size)
        skipped = []
        for features in self.features[:-1]:
            x = convolve(x, features)
            skipped.append(x)
            x = nn.max_pool(x, two, two)
        x = convolve(x, self.features[-1])
        for features in reversed(self.features[:-1]):
            for axis in range(1, num_axes + 1):
                x = jnp.repeat(x, 2, axis=axis)
            x = convolve(jnp.concatenate([x, skipped.pop()], axis=-1), features)
        logits = nn.Dense(PATCH_SIZE**num_axes * self.num_classes, dtype=jnp.float32, name="head")(x)
        return crop(unpatchify(logits, patch_size), image.shape[1:-1])


def _neighbours(x: jax.Array, axis: int) -> jax.Array:
    """The features of each place, between those of the one before and the one after it along an axis; 0 outside."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(other == axis),) * 2 for other in range(x.ndim)])
    return jnp.concatenate([jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)], axis=-1)
