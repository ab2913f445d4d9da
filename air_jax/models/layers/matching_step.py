"""Matching step: features of the images' patches, matching by attention, and the vote of all tokens on a small step."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import check_flag, require
from air_jax.models.layers.attention_step import INJECTIVITY_BOUND
from air_jax.models.layers.edge_tensor import edge_tensor
from air_jax.models.layers.inputs import crop, pad_to_multiple
from air_jax.models.layers.matching import Match, match_windows, neighbours, window_offsets
from air_jax.models.layers.options import (
    require_not_negative,
    require_positive_integer,
    require_positive_integers,
    require_same_length,
)
from air_jax.models.layers.patches import overlapping_patches
from air_jax.transforms import bspline, control_shape, smooth

TEMPERATURE = 10.0  # initial factor of squared feature distances
SLOPE = 0.25  # initial bias against an offset, for each squared token
MIN_CONFIDENCE = 1e-3  # added to the smoothed confidence, so that no division by 0 occurs


@dataclass(frozen=True)
class MatchingOptions:
    """Options of the matching steps, as `MatchingAiR` documents them.

    Raises:
      OptionError: an option has a value that it cannot take.
    """

    downsampling: Sequence[int]
    stride: Sequence[int]
    patch_size: Sequence[int]
    num_steps: Sequence[int]
    radius: Sequence[int]
    width: int
    num_heads: int
    feed_forward: int
    edge_tensor: bool
    vote_sigma: float
    total_sigma: float

    def __post_init__(self):
        levels = dict(stride=self.stride, patch_size=self.patch_size, num_steps=self.num_steps, radius=self.radius)
        sizes = dict(width=self.width, num_heads=self.num_heads, feed_forward=self.feed_forward)
        require_positive_integers(downsampling=self.downsampling, **levels)
        require_positive_integer(**sizes)
        require_same_length("downsampling", len(self.downsampling), **levels)
        for stride, patch_size in zip(self.stride, self.patch_size, strict=True):
            odd = patch_size % stride == 0 and patch_size // stride % 2 == 1
            require(odd, "patch_size", self.patch_size, f"must be odd multiples of stride {self.stride}")
        whole = self.width % self.num_heads == 0
        require(whole, "width", self.width, f"must be a multiple of num_heads ({self.num_heads})")
        check_flag("edge_tensor", self.edge_tensor)
        require_not_negative(vote_sigma=self.vote_sigma, total_sigma=self.total_sigma)

    @classmethod
    def of(cls, model: Any) -> "MatchingOptions":
        """The options of a model that has attributes of these names."""
        return cls(**{field.name: getattr(model, field.name) for field in fields(cls)})


class Vote(NamedTuple):
    """Result of one matching step.

    Attributes:
      displacement: `[B, *S, N]`, a one-to-one B-spline, in voxels of the level.
      match: what each token matches.
      confidence: `[B, *G, H]` in (0, 1), weight of each token's and head's offset in the vote.
    """

    displacement: jax.Array
    match: Match
    confidence: jax.Array


class TokenFeatures(nn.Module):
    """Features of the patches of one image: a linear layer, a network of two layers, a mixing of neighbours.

    The last two add to the first and start at zero, so untrained features are random projections of patches, whose
    distances approximate those of the patches. There are no positions, so features move with the image.

    Attributes:
      stride, patch_size: in voxels of the level.
      width: number of features.
      feed_forward: hidden width.
      edge_tensor: whether patches are those of the image's edge tensor.
    """

    stride: int
    patch_size: int
    width: int
    feed_forward: int
    edge_tensor: bool

    @classmethod
    def of(cls, options: MatchingOptions, level: int) -> "TokenFeatures":
        """Returns the feature network of a level."""
        sizes = options.stride[level], options.patch_size[level], options.width, options.feed_forward
        return cls(*sizes, options.edge_tensor)

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Returns the features `[B, *G, width]` of an image `[B, *S, C]`."""
        num_axes = image.ndim - 2
        image = edge_tensor(image) if self.edge_tensor else image
        strides, sizes = (self.stride,) * num_axes, (self.patch_size,) * num_axes
        patches = overlapping_patches(pad_to_multiple(image, strides), strides, sizes)
        tokens = nn.Dense(self.width, name="patch_embedding")(patches)

        hidden = nn.relu(nn.Dense(self.feed_forward, name="hidden")(tokens))
        zeros = nn.initializers.zeros_init()
        tokens = tokens + nn.Dense(self.width, kernel_init=zeros, name="feed_forward")(hidden)
        return tokens + nn.Dense(self.width, use_bias=False, kernel_init=zeros, name="mixing")(neighbours(tokens))


class MatchingStep(nn.Module):
    """Moves each fixed token towards the moving tokens that it matches. All steps of a level share its parameters.

    Attributes:
      options: options of the model.
      level: index of the level, coarse to fine.
    """

    options: MatchingOptions
    level: int

    def setup(self):
        self.features = TokenFeatures.of(self.options, self.level)

    @nn.compact
    def __call__(self, fixed_tokens: jax.Array, warped: jax.Array) -> Vote:
        """Predicts the displacement of one step.

        Args:
          fixed_tokens: `[B, *G, width]`, `features` of the fixed image on the grid of the level.
          warped: `[B, *S, C]` in [0, 1], the moving image on that grid, warped by the displacement so far.
        """
        options, shape = self.options, warped.shape[1:-1]
        control, match, confidence = match_and_vote(
            self,
            fixed_tokens,
            self.features(warped),
            num_heads=options.num_heads,
            radius=options.radius[self.level],
            vote_sigma=options.vote_sigma,
        )
        strides = (options.stride[self.level],) * len(shape)
        control = crop(control, control_shape(shape, strides))
        displacement = options.stride[self.level] * bspline(control, strides, shape)
        return Vote(displacement, match, confidence)


def match_and_vote(
    module: nn.Module, fixed: jax.Array, moving: jax.Array, *, num_heads: int, radius: int, vote_sigma: float
) -> tuple[jax.Array, Match, jax.Array]:
    """Matches tokens, and lets all heads and neighbours vote, with parameters of the module that calls it.

    Args:
      module: the module, in its compact method.
      fixed, moving: features `[B, *G, F]` of the tokens; `F` is a multiple of `num_heads`.
      num_heads, radius, vote_sigma: as `MatchingAiR` documents them.

    Returns:
      The control vectors `[B, *G, N]` of a one-to-one B-spline, in tokens; the match; the confidence `[B, *G, H]`.
    """
    num_axes = fixed.ndim - 2
    temperature = module.param("log_temperature", nn.initializers.constant(np.log(TEMPERATURE)), (num_heads,))
    bias = module.param("bias", _offset_bias, (num_heads, *(2 * radius + 1,) * num_axes))

    def by_head(tokens: jax.Array) -> jax.Array:
        return tokens.reshape(*tokens.shape[:-1], num_heads, -1)

    keys = by_head(fixed), by_head(moving)
    match = match_windows(*keys, jnp.exp(temperature), bias.reshape(num_heads, -1), radius=radius)
    gate = nn.Dense(num_heads, kernel_init=nn.initializers.zeros_init(), name="gate")
    confidence = nn.sigmoid(gate(jnp.concatenate([fixed, match.entropy], axis=-1)))
    return vote(match.offset, confidence, vote_sigma), match, confidence


def vote(offset: jax.Array, confidence: jax.Array, sigma: float) -> jax.Array:
    """Averages the offsets of all heads and neighbours, weighted by their confidence, and bounds the result.

    Args:
      offset: `[B, *G, H, N]` in tokens.
      confidence: `[B, *G, H]` in (0, 1).
      sigma: standard deviation, in tokens, of the Gaussian over neighbours.

    Returns:
      `[B, *G, N]` in tokens. As control vectors of a cubic B-spline with one control point a token, they give a
      one-to-one map (Choi & Lee 2000): each component is below `INJECTIVITY_BOUND`.
    """
    num_axes = offset.shape[-1]
    weighted = jnp.sum(confidence[..., None] * offset, axis=-2)
    total = jnp.sum(confidence, axis=-1, keepdims=True)
    smoothed = smooth(jnp.concatenate([weighted, total], axis=-1), sigma)
    bound = INJECTIVITY_BOUND[num_axes]
    return bound * jnp.tanh(smoothed[..., :-1] / (smoothed[..., -1:] + MIN_CONFIDENCE) / bound)


def _offset_bias(_: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Initial bias `[H, 2 radius + 1, ...]`: tokens first prefer small offsets."""
    radius = shape[1] // 2
    squared = np.sum(np.square(window_offsets(radius, len(shape) - 1)), axis=-1).reshape(shape[1:])
    return jnp.asarray(np.broadcast_to(-SLOPE * squared, shape), jnp.float32)
