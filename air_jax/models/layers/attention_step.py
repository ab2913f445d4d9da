"""Attention step: a decoder compares the warped image with the fixed image and predicts control vectors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.checks import require
from air_jax.models.layers.attention import PRE_NORM_KERNEL_INIT
from air_jax.models.layers.inputs import crop, pad_to_multiple
from air_jax.models.layers.options import (
    require_dropout,
    require_dtype,
    require_flags,
    require_positive_integer,
    require_positive_integers,
    require_same_length,
)
from air_jax.models.layers.patches import overlapping_patches, patchify, unpatchify
from air_jax.models.layers.positions import position_table
from air_jax.models.layers.transformer import Stack
from air_jax.transforms import bspline, control_shape

# A cubic B-spline displacement whose control vectors have components below this many control spacings is one-to-one
# (Choi & Lee 2000, section 4: 1 / 2.046 in 2-D and 1 / 2.479 in 3-D).
INJECTIVITY_BOUND = {2: 0.48, 3: 0.40}


@dataclass(frozen=True)
class AttentionOptions:
    """Options of the attention steps, as `PyramidAiR` documents them.

    Raises:
      OptionError: an option has a value that it cannot take.
    """

    stride: Sequence[int]
    patch_size: Sequence[int]
    spacing: Sequence[int]
    num_steps: Sequence[int]
    downsampling: Sequence[int] | None
    width: int
    num_heads: int
    encoder_depth: int
    decoder_depth: int
    feed_forward: int
    relative_radius: int | None
    self_attention: bool
    dropout: float
    flash_attention: bool
    remat: bool
    dtype: Any

    def __post_init__(self):
        levels = dict(
            stride=self.stride,
            patch_size=self.patch_size,
            spacing=self.spacing,
            num_steps=self.num_steps,
        )
        if self.downsampling is not None:
            levels["downsampling"] = self.downsampling
        sizes = ("width", "num_heads", "encoder_depth", "decoder_depth", "feed_forward")
        require_positive_integers(**levels)
        require_positive_integer(**{option: getattr(self, option) for option in sizes})
        require_same_length("stride", len(self.stride), **levels)
        for stride, patch_size, spacing in zip(self.stride, self.patch_size, self.spacing, strict=True):
            odd = patch_size % stride == 0 and patch_size // stride % 2 == 1
            require(odd, "patch_size", self.patch_size, f"must be odd multiples of stride {self.stride}")
            require(stride % spacing == 0, "spacing", self.spacing, f"must be divisors of stride {self.stride}")
        whole = self.width % self.num_heads == 0
        require(whole, "width", self.width, f"must be a multiple of num_heads ({self.num_heads})")
        if self.relative_radius is not None:
            require_positive_integer(relative_radius=self.relative_radius)
        require_dropout(self.dropout)
        require_flags(self_attention=self.self_attention, flash_attention=self.flash_attention, remat=self.remat)
        require_dtype(self.dtype)

    @classmethod
    def of(cls, model: Any) -> "AttentionOptions":
        """The options of a model that has attributes of these names."""
        return cls(**{field.name: getattr(model, field.name) for field in fields(cls)})

    @property
    def factors(self) -> Sequence[int]:
        """Downsampling of each level."""
        return self.downsampling or (1,) * len(self.stride)

    def block(self) -> dict[str, Any]:
        """Attributes of each `Block`."""
        return dict(
            num_heads=self.num_heads,
            head_size=self.width // self.num_heads,
            feed_forward=self.feed_forward,
            dropout=self.dropout,
            flash_attention=self.flash_attention,
            self_attention=self.self_attention,
            pre_norm=True,
            relative_radius=self.relative_radius,
            dtype=self.dtype,
        )


class Prediction(NamedTuple):
    """Result of one attention step.

    Attributes:
      displacement: `[B, *S, N]`, a one-to-one B-spline, in voxels of the level.
      gates: `[B, *S, G]` in (0, 1), one channel for each force; None without forces.
      memory: the encoder's output and attention weights, for the level's next step.
      out: intermediates, see `PyramidAiR`.
    """

    displacement: jax.Array
    gates: jax.Array | None
    memory: tuple[jax.Array, dict[str, Any]]
    out: dict[str, Any]


class AttentionStep(nn.Module):
    """Predicts a small one-to-one B-spline displacement by attention. All steps of a level share its parameters.

    The encoder reads the fixed image's patches in the first step. In every step the decoder reads the patches of the
    warped moving image and attends to the encoder's output; a linear layer gives the control vectors. With forces,
    each token also reads the forces within its cell, and predicts a gate for each force.

    Attributes:
      options: options of the model.
      level: index of the level, coarse to fine.
    """

    options: AttentionOptions
    level: int

    @nn.compact
    def __call__(
        self,
        fixed: jax.Array,
        warped: jax.Array,
        memory: tuple[jax.Array, dict[str, Any]] | None = None,
        *,
        forces: Sequence[Sequence[jax.Array]] = (),
        deterministic: bool,
    ) -> Prediction:
        """Predicts the displacement of one step.

        Args:
          fixed: `[B, *S, C]` in [0, 1], on the grid of the level.
          warped: the moving image, warped by the displacement so far; the same shape.
          memory: `memory` of the level's step before; None in the first step.
          forces: forces `[B, *S, N]` of each kind, from narrow to wide smoothing, see `demons_forces`. Tokens read the
            widest of each kind.
          deterministic: False applies dropout.
        """
        options, (batch, *shape, _), num_axes = self.options, fixed.shape, fixed.ndim - 2
        stride, spacing = options.stride[self.level], options.spacing[self.level]
        strides, patch_sizes = (stride,) * num_axes, (options.patch_size[self.level],) * num_axes
        token_grid = control_shape(shape, strides)
        embed = nn.Dense(options.width, dtype=options.dtype, kernel_init=PRE_NORM_KERNEL_INIT, name="patch_embedding")
        position = position_table(self, token_grid, options.width).astype(options.dtype)

        def embedded_patches(image):
            return embed(overlapping_patches(pad_to_multiple(image, strides), strides, patch_sizes))

        def stack(depth, name):
            return Stack(depth, False, options.block(), options.remat, name=name)

        def tokens(patches):
            return (patches + position).reshape(batch, -1, options.width)

        def splines(values, points, spacing):
            """Evaluates B-splines at every voxel: control values `[B, T, points**N * F]` to `[B, *S, F]`."""
            control = unpatchify(values.reshape(batch, *token_grid, -1), (points,) * num_axes)
            spacings = (spacing,) * num_axes
            # Padding to whole patches may add control points that no voxel of the image needs.
            return bspline(crop(control, control_shape(shape, spacings)), spacings, shape)

        if memory is None:
            memory = stack(options.encoder_depth, "encoder")(
                tokens(embedded_patches(fixed)), token_grid=token_grid, deterministic=deterministic
            )
        patches = embedded_patches(warped)
        if forces:
            embed_forces = nn.Dense(options.width, use_bias=False, dtype=options.dtype, name="force_embedding")
            widest = jnp.concatenate([kind[-1] for kind in forces], axis=-1)
            patches = patches + embed_forces(patchify(pad_to_multiple(widest, strides), strides))
        decoded, decoder_out = stack(options.decoder_depth, "decoder")(
            tokens(patches), memory[0], token_grid=token_grid, deterministic=deterministic
        )
        points = stride // spacing
        features, num_gates = points**num_axes * num_axes, sum(map(len, forces))
        # Zero, so that training starts from the identity or from the forces; float32, for coordinates.
        zeros = nn.initializers.zeros_init()
        predicted = nn.Dense(features + num_gates, dtype=jnp.float32, kernel_init=zeros, name="head")(decoded)
        bound = INJECTIVITY_BOUND[num_axes] * spacing
        displacement = splines(bound * jnp.tanh(predicted[..., :features] / bound), points, spacing)
        gates = splines(nn.sigmoid(predicted[..., features:]), 1, stride) if forces else None
        out = dict(encoder=memory[1], decoder=decoder_out, read=warped, token_grid=token_grid, patch_size=strides)
        return Prediction(displacement, gates, memory, out)
