"""VoxelMorph's U-Net (Balakrishnan et al. 2019, section III-A; with a velocity field, Dalca et al. 2019)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.inputs import check_pair, crop, pad_to_multiple
from air_jax.transforms import exponential


class UNet(nn.Module):
    """Predicts the displacement that warps `moving` onto `fixed` with a convolutional U-Net. A baseline for AiR.

    Attributes:
      encoder: features of each level going down; after each, the resolution halves.
      decoder: features of each level going up, as many as `encoder`; before each, the resolution doubles.
      final: features of the convolutions at full resolution that come last.
      integration_steps: 0 reads the last layer as a displacement; more, as a stationary velocity, which is integrated
        by scaling and squaring.
      dtype: dtype of the convolutions. Parameters and displacement are float32.
    """

    encoder: Sequence[int] = (16, 32, 32, 32)
    decoder: Sequence[int] = (32, 32, 32, 32)
    final: Sequence[int] = (32, 16, 16)
    integration_steps: int = 0
    dtype: Any = jnp.float32
    has_convolutions: ClassVar[bool] = True

    @nn.compact
    def __call__(
        self, fixed: jax.Array, moving: jax.Array, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Predicts a displacement.

        Args:
          fixed: `[B, *S, C]` in [0, 1], 2-D or 3-D, any size.
          moving: the same shape.
          deterministic: for the interface's sake; nothing here is random.

        Returns:
          The pull-back displacement `[B, *S, N]`, float32, in voxels; and `out`, with `velocity` of the same shape when
          the network predicts one.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        del deterministic
        num_axes = check_pair("UNet", fixed, moving)
        if len(self.encoder) != len(self.decoder):
            raise ValueError(f"UNet: encoder {self.encoder} and decoder {self.decoder} must have as many levels")

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
