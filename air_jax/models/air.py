"""AiR: attention for image registration (Wang & Delingette 2021, section 2.1)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.attention import KERNEL_INIT
from air_jax.models.layers.heads import HEADS
from air_jax.models.layers.inputs import check_pair, crop, pad_to_multiple
from air_jax.models.layers.patches import patchify
from air_jax.models.layers.positions import position_table
from air_jax.models.layers.transformer import Stack
from air_jax.transforms import exponential


class AiR(nn.Module):
    """Predicts the displacement that warps `moving` onto `fixed`, from attention between their patches.

    The fixed image's patches go through the encoder; its output is the memory that the decoder, which reads the moving
    image's patches, attends to (Fig. 1). One projection and one position table serve both images. A linear head gives
    the deformation features, which become a displacement field (Fig. 2). Works in 2-D and 3-D and for any size: what
    the patch size does not divide is padded and cropped back; at another size than the one it was initialised with,
    the position table is interpolated.

    Attributes:
      patch_size: patch size in voxels, one number or one for each spatial axis. The paper's `i = 4` read as 4 x 4
        patches is 7 for 28 x 28 images; read as patches of 4 x 4 pixels it is 4.
      width: token width ("projection dimension").
      num_heads: heads of each attention layer.
      head_size: size of each head; `width // num_heads` when None.
      encoder_depth, decoder_depth: number of blocks (the paper's N).
      recursive: one set of weights applied N times ("N recursive blocks"), instead of N sets.
      feed_forward: hidden width of the feed-forward networks.
      dropout: dropout rate.
      head: `dense`, `control_grid` or `bspline`, see `air_jax.models.layers.heads`.
      integration_steps: 0 reads the head as a displacement, as the paper does; more, as a stationary velocity, which is
        integrated by scaling and squaring, so that the displacement hardly folds.
      flash_attention: memory that grows with the number of tokens, not with its square, see `MultiHeadAttention`;
        `out` has no attention weights then.
      remat: less memory for more time, see `Stack`.
      dtype: dtype of the Transformer's computation. Parameters and displacement are float32.
    """

    patch_size: int | Sequence[int] = 7
    width: int = 16
    num_heads: int = 4
    head_size: int | None = None
    encoder_depth: int = 1
    decoder_depth: int = 1
    recursive: bool = False
    feed_forward: int = 64
    dropout: float = 0.0
    head: str = "control_grid"
    integration_steps: int = 0
    flash_attention: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, fixed: jax.Array, moving: jax.Array, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Predicts a displacement.

        Args:
          fixed: `[B, *S, C]` in [0, 1], 2-D or 3-D.
          moving: the same shape.
          deterministic: False applies dropout and needs a `dropout` random stream.

        Returns:
          The pull-back displacement `[B, *S, N]`, float32, in voxels; and `out`, the intermediate results: `memory`
          and `tokens` `[B, T, width]` (encoder's and decoder's output), `encoder` and `decoder` (attention weights
          `[B, heads, T, T]` by block and kind), `token_grid` (tokens along each spatial axis) and `patch_size`; with
          `integration_steps`, the `velocity` `[B, *S, N]` as well.

        Raises:
          ValueError: the images' shapes differ or do not suit the model.
        """
        patch_size = self._check(fixed, moving)
        embed = nn.Dense(self.width, dtype=self.dtype, kernel_init=KERNEL_INIT, name="patch_embedding")
        patches = [patchify(pad_to_multiple(image, patch_size), patch_size) for image in (fixed, moving)]
        batch, *token_grid, _ = patches[0].shape
        position = position_table(self, token_grid, self.width)
        fixed_tokens, moving_tokens = (
            (embed(p) + position.astype(self.dtype)).reshape(batch, -1, self.width) for p in patches
        )

        block = dict(
            num_heads=self.num_heads,
            head_size=self.head_size or self.width // self.num_heads,
            feed_forward=self.feed_forward,
            dropout=self.dropout,
            flash_attention=self.flash_attention,
            dtype=self.dtype,
        )
        memory, encoder_out = Stack(self.encoder_depth, self.recursive, block, self.remat, name="encoder")(
            fixed_tokens, deterministic=deterministic
        )
        tokens, decoder_out = Stack(self.decoder_depth, self.recursive, block, self.remat, name="decoder")(
            moving_tokens, memory, deterministic=deterministic
        )

        displacement = HEADS[self.head](tokens.reshape(batch, *token_grid, self.width), patch_size)
        displacement = crop(displacement, fixed.shape[1:-1])
        out = dict(memory=memory, tokens=tokens, encoder=encoder_out, decoder=decoder_out)
        out |= dict(token_grid=tuple(token_grid), patch_size=patch_size)
        if self.integration_steps:
            return exponential(displacement, integration_steps=self.integration_steps), out | dict(
                velocity=displacement
            )
        return displacement, out

    def _check(self, fixed: jax.Array, moving: jax.Array) -> tuple[int, ...]:
        """Raises `ValueError` for what the model cannot take; returns the patch size along each axis."""
        num_axes = check_pair("AiR", fixed, moving)
        patch_size = (self.patch_size,) * num_axes if isinstance(self.patch_size, int) else tuple(self.patch_size)
        if len(patch_size) != num_axes:
            raise ValueError(f"AiR: patch_size {patch_size} does not fit images with {num_axes} spatial axes")
        if self.head not in HEADS:
            raise ValueError(f"AiR: head is {self.head!r}; it must be one of {', '.join(HEADS)}")
        if self.head_size is None and self.width % self.num_heads:
            raise ValueError(
                f"AiR: width {self.width} is not a multiple of num_heads {self.num_heads}; change one or set head_size"
            )
        return patch_size
