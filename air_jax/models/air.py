"""AiR: attention for image registration (Wang & Delingette 2021, section 2.1)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.checks import check_choice, require
from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.attention import KERNEL_INIT
from air_jax.models.layers.heads import HEADS
from air_jax.models.layers.inputs import Sizes, check_pair, crop, pad_to_multiple
from air_jax.models.layers.options import (
    require_dropout,
    require_dtype,
    require_flags,
    require_integration_steps,
    require_positive_integer,
    require_positive_integers,
)
from air_jax.models.layers.patches import patchify
from air_jax.models.layers.positions import position_table
from air_jax.models.layers.transformer import Stack
from air_jax.transforms import exponential


class AiR(nn.Module):
    """Predicts the displacement that warps `moving` onto `fixed`, from attention between their patches.

    The encoder reads the fixed image's patches. The decoder reads the moving image's patches and attends to the
    encoder's output, the memory (Fig. 1). Both images share one projection and one position table. A linear head
    predicts deformation features, which become a displacement (Fig. 2). Works in 2-D and 3-D and for any size: images
    are padded to whole patches, and the displacement is cropped. For another size than that of the initialisation, the
    position table is interpolated.

    Attributes:
      patch_size: patch size in voxels, one number or one for each spatial axis. The paper's `i = 4` means 7 for 28 x 28
        images if it counts patches along an axis, and 4 if it counts pixels.
      width: token width ("projection dimension").
      num_heads: heads of each attention layer.
      head_size: size of each head; `width // num_heads` when None.
      encoder_depth, decoder_depth: number of blocks (the paper's N).
      recursive: whether all blocks share one set of weights (the paper's "N recursive blocks").
      feed_forward: hidden width of the feed-forward networks.
      dropout: dropout rate in [0, 1).
      head: `dense`, `control_grid` or `bspline`, see `air_jax.models.layers.heads`.
      integration_steps: 0: the head predicts a displacement, as in the paper. Values above 0: it predicts a stationary
        velocity, which is integrated by this many steps of scaling and squaring, so that there is little folding.
      flash_attention: memory grows linearly with the number of tokens, see `MultiHeadAttention`. `out` then has no
        attention weights.
      remat: less memory for more time, see `Stack`.
      dtype: dtype of the Transformer, float32 or bfloat16. Parameters and displacement are float32.

    Raises:
      OptionError: an option has a value that it cannot take, or options do not fit together.

    Examples:
      >>> model, image = air_jax.AiR(patch_size=4), jnp.zeros((1, 8, 8, 1))
      >>> (displacement, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)
      >>> displacement.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
      ((1, 8, 8, 2), 8050)
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

    def __post_init__(self):
        depths = dict(encoder_depth=self.encoder_depth, decoder_depth=self.decoder_depth)
        sizes = dict(width=self.width, num_heads=self.num_heads)
        require_positive_integer(**sizes, **depths, feed_forward=self.feed_forward)
        if isinstance(self.patch_size, (tuple, list)):
            require_positive_integers(patch_size=self.patch_size)
        else:
            require_positive_integer(patch_size=self.patch_size)
        if self.head_size is None:
            whole = self.width % self.num_heads == 0
            require(whole, "width", self.width, f"must be a multiple of num_heads ({self.num_heads}), or set head_size")
        else:
            require_positive_integer(head_size=self.head_size)
        require_dropout(self.dropout)
        check_choice("head", self.head, HEADS)
        require_flags(recursive=self.recursive, flash_attention=self.flash_attention, remat=self.remat)
        require_integration_steps(self.integration_steps)
        require_dtype(self.dtype)
        super().__post_init__()

    @model_on_any_mesh
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
          The pull-back displacement `[B, *S, N]`, float32, in voxels.
          `out` with `memory` and `tokens` `[B, T, width]` (output of the encoder and of the decoder), `encoder` and
          `decoder` (attention weights `[B, heads, T, T]` by block and kind), `token_grid` (tokens along each spatial
          axis), `patch_size` and, with `integration_steps`, the `velocity` `[B, *S, N]`.

        Raises:
          ValueError: the images' shapes differ, are not 2-D or 3-D, or do not fit the number of patch sizes.
        """
        num_axes = check_pair("AiR", fixed, moving, deterministic)
        patch_size = (self.patch_size,) * num_axes if isinstance(self.patch_size, int) else tuple(self.patch_size)
        if len(patch_size) != num_axes:
            raise ValueError(f"AiR: patch_size {patch_size} does not fit images with {num_axes} spatial axes")
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
        out |= dict(token_grid=Sizes(token_grid), patch_size=Sizes(patch_size))
        if self.integration_steps:
            return exponential(displacement, integration_steps=self.integration_steps), out | dict(
                velocity=displacement
            )
        return displacement, out
