"""AiR from coarse to fine: attention between patches, step by step, with the moving image warped between the steps."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.attention_step import AttentionOptions, AttentionStep
from air_jax.models.layers.inputs import check_pair
from air_jax.models.layers.level_state import Channels, make_level, on_grid
from air_jax.transforms import compose


class PyramidAiR(nn.Module):
    """Predicts a displacement by attention on several levels, coarse to fine, in several steps a level.

    As in AiR, an encoder reads the fixed image's patches, a decoder reads the moving image's patches and attends to the
    encoder's output, and a linear layer turns its tokens into control vectors. New are the levels, the warping between
    steps, overlapping patches, the relative position bias, and the composition of small one-to-one B-spline
    displacements. There are no convolutions. Works in 2-D and 3-D and for any size.

    Attributes:
      stride: voxels between patches along every axis, one number for each level, coarse to fine.
      patch_size: patch size in voxels for each level, an odd multiple of `stride`. Larger patches overlap.
      spacing: voxels between control points for each level, a divisor of `stride`.
      num_steps: number of steps for each level. The steps of a level share their weights.
      downsampling: size of each level's voxels in voxels of the image. The options above count voxels of the level.
        None: 1 for every level.
      width: token width, a multiple of `num_heads`.
      num_heads: heads of each attention layer.
      encoder_depth, decoder_depth: number of blocks of each level.
      feed_forward: hidden width of the feed-forward networks.
      relative_radius: offset, in patches, beyond which the relative position bias is constant; None for no bias.
      self_attention: whether the patches of one image attend to each other. The attention between the images stays.
      dropout: dropout rate in [0, 1).
      flash_attention: memory grows linearly with the number of tokens, see `MultiHeadAttention`. `out` then has no
        attention weights.
      remat: less memory for more time, see `Stack`.
      dtype: dtype of the Transformers, float32 or bfloat16. Parameters and displacement are float32.

    Raises:
      OptionError: an option has a value that it cannot take, or options do not fit together.

    Examples:
      >>> image = jnp.zeros((1, 8, 8, 1))
      >>> model = air_jax.models.PyramidAiR(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(1,))
      >>> (displacement, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)
      >>> displacement.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
      ((1, 8, 8, 2), 52582)
    """

    stride: Sequence[int] = (4, 4, 4)
    patch_size: Sequence[int] = (12, 12, 12)
    spacing: Sequence[int] = (4, 2, 1)
    num_steps: Sequence[int] = (2, 3, 4)
    downsampling: Sequence[int] | None = None
    width: int = 64
    num_heads: int = 4
    encoder_depth: int = 1
    decoder_depth: int = 1
    feed_forward: int = 128
    relative_radius: int | None = 6
    self_attention: bool = False
    dropout: float = 0.0
    flash_attention: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self):
        AttentionOptions.of(self)
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
          `out` with `displacements`, the displacement `[B, *S, N]` after each level. It also has, from the last step of
          the last level:
          `encoder` and `decoder`, attention weights `[B, heads, T, T]` by block and kind. The encoder has none without
          self-attention.
          `read`, the warped moving image on the level's grid. The decoder read its patches.
          `token_grid`, tokens along each spatial axis.
          `patch_size`, the level's voxels between tokens.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        num_axes = check_pair("PyramidAiR", fixed, moving, deterministic)
        options, shape = AttentionOptions.of(self), fixed.shape[1:-1]
        displacement, displacements, out = jnp.zeros((*fixed.shape[:-1], num_axes), jnp.float32), [], {}
        for index, (num_steps, factor) in enumerate(zip(self.num_steps, options.factors, strict=True)):
            level, displacement = make_level(Channels(fixed), Channels(moving), displacement, factor)
            step, memory = AttentionStep(options, index, name=f"level_{index}"), None
            for _ in range(num_steps):
                state = level.state(displacement)
                prediction = step(state.fixed.image, state.warped.image, memory, deterministic=deterministic)
                displacement = compose(displacement, prediction.displacement)
                memory, out = prediction.memory, prediction.out
            displacements.append(on_grid(displacement, shape))
        return displacements[-1], out | dict(displacements=displacements)
