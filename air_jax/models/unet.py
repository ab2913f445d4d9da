"""VoxelMorph's U-Net (Balakrishnan et al. 2019, section III-A; with a velocity field, Dalca et al. 2019)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.inputs import check_pair, crop, pad_to_multiple
from air_jax.models.layers.options import (
    require_dtype,
    require_integration_steps,
    require_positive_integers,
    require_same_length,
)
from air_jax.transforms import exponential


class UNet(nn.Module):
    """Predicts the displacement that warps `moving` onto `fixed` with a convolutional U-Net. A baseline for AiR.

    Attributes:
      encoder: features of each level, fine to coarse. The resolution halves after each level.
      decoder: features of each level, coarse to fine, as many as `encoder`. The resolution doubles after each level.
      final: features of the last convolutions, at full resolution.
      integration_steps: 0: the last layer predicts a displacement. Values above 0: it predicts a stationary velocity,
        which is integrated by this many steps of scaling and squaring.
      dtype: dtype of the convolutions, float32 or bfloat16. Parameters and displacement are float32.

    Raises:
      OptionError: an option has a value that it cannot take, or options do not fit together.

    Examples:
      >>> image = jnp.zeros((1, 8, 8, 1))
      >>> model = air_jax.models.UNet(encoder=(4,), decoder=(4,), final=(4,))
      >>> (displacement, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)
      >>> displacement.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
      ((1, 8, 8, 2), 590)
    """

    encoder: Sequence[int] = (16, 32, 32, 32)
    decoder: Sequence[int] = (32, 32, 32, 32)
    final: Sequence[int] = (32, 16, 16)
    integration_steps: int = 0
    dtype: Any = jnp.float32
    has_convolutions: ClassVar[bool] = True

    def __post_init__(self):
        require_positive_integers(encoder=self.encoder, decoder=self.decoder, final=self.final)
        require_same_length("encoder", len(self.encoder), decoder=self.decoder)
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
          fixed: `[B, *S, C]` in [0, 1], 2-D or 3-D, any size.
          moving: the same shape.
          deterministic: has no effect; every model takes it.

        Returns:
          The pull-back displacement `[B, *S, N]`, float32, in voxels.
          `out` with, if `integration_steps` is above 0, the `velocity` of the same shape.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        num_axes = check_pair("UNet", fixed, moving, deterministic)

        def convolve(x, features):
            return nn.leaky_relu(nn.Conv(features, (3,) * num_axes, dtype=self.dtype)(x), 0.2)

        x = jnp.concatenate([fixed, moving], axis=-1)
        x = pad_to_multiple(x, (2 ** len(self.encoder),) * num_axes)
        skipped = []
        for features in self.encoder:
            x = convolve(x, features)
            skipped.append(x)
            x = nn.max_pool(x, (2,) * num_axes, (2,) * num_axes)
        for features in self.decoder:
            x = convolve(x, features)
            for axis in range(1, num_axes + 1):
                x = jnp.repeat(x, 2, axis=axis)
            x = jnp.concatenate([x, skipped.pop()], axis=-1)
        for features in self.final:
            x = convolve(x, features)
        # Almost zero, so that training starts from the identity; float32, for coordinates.
        init = nn.initializers.normal(1e-5)
        field = nn.Conv(num_axes, (3,) * num_axes, dtype=jnp.float32, kernel_init=init, name="head")(x)
        field = crop(field, fixed.shape[1:-1])
        if self.integration_steps:
            return exponential(field, integration_steps=self.integration_steps), {"velocity": field}
        return field, {}
