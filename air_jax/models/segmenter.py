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
from air_jax.models.layers.patch_unet import PATCH_SIZE, patch_unet, smallest_multiple
from air_jax.models.layers.patches import unpatchify
from air_jax.transforms.shapes import check_field


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
        padded = pad_to_multiple(image, (smallest_multiple(self.features),) * num_axes)
        x = patch_unet(padded, self.features, self.dtype)[-1]
        logits = nn.Dense(PATCH_SIZE**num_axes * self.num_classes, dtype=jnp.float32, name="head")(x)
        return crop(unpatchify(logits, (PATCH_SIZE,) * num_axes), image.shape[1:-1])


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
