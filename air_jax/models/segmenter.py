"""Segmenter: a convolutional network that predicts the class of each voxel of one image."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.checks import require
from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.inputs import crop, pad_to_multiple, params_of
from air_jax.models.layers.options import require_dtype, require_positive_integer, require_positive_integers
from air_jax.models.layers.patches import patchify, unpatchify
from air_jax.transforms.shapes import check_field

PATCH_SIZE = 2  # voxels along each axis; convolutions of patches are fewer and wider than those of voxels


class Segmenter(nn.Module):
    """Predicts the class of each voxel with a U-Net (Ronneberger et al. 2015) that works on patches of 2 voxels.

    A patch's voxels are its first channels; the class logits of its voxels are its last channels. Convolutions run
    along one axis after the other, each as a matrix product with three neighbours. In 3-D this needs a third of the
    arithmetic of full convolutions.

    Attributes:
      num_classes: number of classes K, at least 2. The background is the first class.
      features: features of each level, fine to coarse. The resolution halves from level to level.
      dtype: dtype of the features, float32 or bfloat16. Parameters and logits are float32.

    Raises:
      OptionError: an option has a value that it cannot take.

    Examples:
      >>> image = jnp.zeros((1, 8, 8, 1))
      >>> model = air_jax.models.Segmenter(num_classes=3, features=(4, 4))
      >>> logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
      >>> logits.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
      ((1, 8, 8, 3), 420)
    """

    num_classes: int
    features: Sequence[int] = (24, 64, 128, 128)
    dtype: Any = jnp.float32

    def __post_init__(self):
        require_positive_integer(num_classes=self.num_classes)
        require_positive_integers(features=self.features)
        require(self.num_classes > 1, "num_classes", self.num_classes, "must be at least 2, the background included")
        require_dtype(self.dtype)
        super().__post_init__()

    @model_on_any_mesh
    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Predicts class logits `[B, *S, K]`, float32, of images `[B, *S, C]` in [0, 1], 2-D or 3-D, of any size."""
        num_axes = check_field("Segmenter", image, "image")
        patch_size, two = (PATCH_SIZE,) * num_axes, (2,) * num_axes

        def convolve(x, features):
            for axis in range(1, num_axes + 1):
                x = nn.Dense(features, use_bias=False, dtype=self.dtype)(_neighbours(x, axis))
            # Statistics of each image and feature: batches of volumes are too small for batch normalisation.
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
    """Concatenates each place's features with those of its two neighbours along an axis; 0 beyond the border."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(int(other == axis),) * 2 for other in range(x.ndim)])
    return jnp.concatenate([jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)], axis=-1)


def require_segmenter(segmenter: Any) -> None:
    """Raises `OptionError` unless an option is a segmenter or None."""
    require(
        segmenter is None or isinstance(segmenter, Segmenter), "segmenter", segmenter, "must be a Segmenter or None"
    )


def segment_pair(
    segmenter: Segmenter | None, fixed: jax.Array, moving: jax.Array
) -> tuple[jax.Array, jax.Array] | tuple[None, None]:
    """Predicts the class probabilities `[B, *S, K]` of two images `[B, *S, C]`; None without a segmenter.

    Gradients stop here: trained by the loss of the displacement, classes would no longer be those of the anatomy.
    """
    if segmenter is None:
        return None, None
    logits = segmenter(jnp.concatenate([fixed, moving]))
    fixed_probabilities, moving_probabilities = jnp.split(jax.lax.stop_gradient(nn.softmax(logits)), 2)
    return fixed_probabilities, moving_probabilities


def segment(segmenter: Segmenter | None, params: Any, image: jax.Array) -> jax.Array:
    """Predicts class probabilities `[B, *S, K]` of images `[B, *S, C]`, with `params["segmenter"]`.

    Raises:
      ValueError: there is no segmenter, or the parameters are not those of the model.
    """
    if segmenter is None:
        raise ValueError("segment: the model has no segmenter; set its option segmenter")
    params = params_of(params, "segmenter")
    return nn.softmax(jnp.asarray(segmenter.apply({"params": params}, image)))
