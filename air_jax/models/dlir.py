"""DLIR's convolutional network with a B-spline control grid (de Vos et al. 2017, 2019; the paper's reference [7])."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.inputs import check_pair, pad_to_multiple
from air_jax.models.layers.options import require_dtype, require_positive_integer
from air_jax.transforms import bspline


class DLIR(nn.Module):
    """Predicts the control points of a cubic B-spline from both images, with convolutions. A baseline for AiR.

    Convolutions and average pooling reduce the pair of images to the control grid. Two more convolutions and two layers
    on each control point's features predict its vector (de Vos et al. 2019, section 3.1 and Fig. 2, with ELU
    activations). Batch normalisation is left out, so that pairs are independent.

    Attributes:
      num_poolings: number of poolings. Control points are `2 ** num_poolings` voxels apart.
      width: features of each convolution.
      dtype: dtype of the convolutions, float32 or bfloat16. Parameters and displacement are float32.

    Raises:
      OptionError: an option has a value that it cannot take.

    Examples:
      >>> image = jnp.zeros((1, 8, 8, 1))
      >>> model = air_jax.models.DLIR(num_poolings=1, width=4)
      >>> (displacement, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)
      >>> displacement.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
      ((1, 8, 8, 2), 422)
    """

    num_poolings: int = 2
    width: int = 32
    dtype: Any = jnp.float32
    has_convolutions: ClassVar[bool] = True

    def __post_init__(self):
        require_positive_integer(num_poolings=self.num_poolings, width=self.width)
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
          `out` with `control`, the control vectors `[B, *K, N]` in voxels.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        num_axes = check_pair("DLIR", fixed, moving, deterministic)
        spacing = (2**self.num_poolings,) * num_axes

        def convolve(x, size):
            return nn.elu(nn.Conv(self.width, (size,) * num_axes, dtype=self.dtype)(x))

        x = pad_to_multiple(jnp.concatenate([fixed, moving], axis=-1), spacing)
        for _ in range(self.num_poolings):
            x = nn.avg_pool(convolve(x, 3), (2,) * num_axes, (2,) * num_axes)
        for size in (3, 3, 1, 1):
            x = convolve(x, size)
        # Zero, so that training starts from the identity; float32, for coordinates.
        control = nn.Dense(num_axes, dtype=jnp.float32, kernel_init=nn.initializers.zeros_init(), name="head")(x)
        return bspline(control, spacing, fixed.shape[1:-1]), {"control": control}
