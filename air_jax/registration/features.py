"""A similarity of learned features: it compares images of different contrasts as a trained model does."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.checks import check_instance
from air_jax.errors import OptionError
from air_jax.losses import Similarity
from air_jax.losses.windows import at_least_float32, seen, voxel_weights, weighted_mean
from air_jax.models.layers.inputs import pad_to_multiple
from air_jax.models.layers.patches import overlapping_patches
from air_jax.registration.registration import Registration
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms.shapes import check_images

SMALLEST_SQUARE = 1e-3  # added to products of squared norms: features of flat patches have no direction


def feature_similarity(registration: Registration) -> Similarity:
    """Makes a similarity of the features that a model has learned to match.

    With features `f(p)` of the fixed and `g(p)` of the warped image at patch `p`, it is the mean over patches of

        1 - f(p) g(p) / sqrt(|f(p)|^2 |g(p)|^2 + 0.001)

    The features of a model trained on images of all contrasts, such as "shapes-2d", hardly depend on the contrast, so
    this similarity compares images of different contrasts. It is a pytree whose leaves are the model's parameters.

    Args:
      registration: a registration whose model is a `MatchingAiR`, such as `air_jax.load_pretrained("shapes-2d")`.

    Returns:
      A function of `fixed` and `warped` `[B, *S, C]` in [0, 1] that returns `[B]` in [0, 2], near 0 for equal features.
      Its keyword `weights`, `[B, *S]` in [0, 1], says by which share a voxel counts; a patch counts as its least voxel.
      Where the model was trained on images of one channel, every channel is compared by itself.

    Raises:
      OptionError: the model has no features.

    Examples:
      >>> similarity = air_jax.feature_similarity(air_jax.load_pretrained("shapes-2d"))
      >>> fixed = jnp.zeros((1, 16, 16, 1)).at[:, 4:10, 4:10].set(1)
      >>> negative, moved = similarity(fixed, 1 - fixed), similarity(fixed, jnp.roll(fixed, 3, axis=1))
      >>> bool(negative[0] < 0.1 * moved[0])
      True
    """
    check_instance("registration", registration, Registration, "a Registration")
    if not hasattr(registration.model, "feature_patches"):
        name = type(registration.model).__name__
        raise OptionError(
            "registration", name, "has no features; needs a model of matching attention on patches, MatchingAiR"
        )
    *shape, channels = registration.image_shape
    return jax.tree_util.Partial(_Cosine(registration.model, len(shape), channels), registration.params)


@dataclass(frozen=True)
class _Cosine:
    """The similarity, as a function of the parameters; equal for equal models, so that it compiles once."""

    model: nn.Module
    num_axes: int
    channels: int

    @on_any_mesh
    def __call__(
        self, params: Any, fixed: jax.Array, warped: jax.Array, *, weights: jax.Array | None = None
    ) -> jax.Array:
        check_images("feature_similarity", fixed, warped)
        channels = fixed.shape[-1]
        if fixed.ndim != self.num_axes + 2 or (self.channels > 1 and channels != self.channels):
            raise ValueError(
                f"feature_similarity: fixed has shape {fixed.shape}; the model has learned {self.num_axes} spatial axes"
                f" and {self.channels} channels"
            )
        counts = voxel_weights("feature_similarity", fixed, weights)
        both = (self._features(params, seen(image, counts)) for image in (fixed, warped))
        distance = _cosine_distance(*both)
        if counts is not None and self.channels == 1:
            counts = jnp.repeat(counts, channels, axis=0)
        means = weighted_mean(distance, self._patches(counts), range(1, distance.ndim))
        return jnp.mean(means.reshape(fixed.shape[0], -1), axis=1)

    def _features(self, params: Any, image: jax.Array) -> jax.Array:
        if self.channels == 1:  # each channel is an image of its own
            image = jnp.moveaxis(image, -1, 1).reshape(-1, *image.shape[1:-1], 1)
        return self.model.features(params, at_least_float32(image))

    def _patches(self, weights: jax.Array | None) -> jax.Array | None:
        """The least weight of each patch: `[B, *S, 1]` to `[B, *G]`."""
        if weights is None:
            return None
        stride, size = ((side,) * self.num_axes for side in self.model.feature_patches())
        return jnp.min(overlapping_patches(pad_to_multiple(weights, stride), stride, size), axis=-1)


def _cosine_distance(f: jax.Array, g: jax.Array) -> jax.Array:
    squares = jnp.sum(jnp.square(f), axis=-1) * jnp.sum(jnp.square(g), axis=-1)
    return 1 - jnp.sum(f * g, axis=-1) * jax.lax.rsqrt(squares + SMALLEST_SQUARE)
