"""The result of a registration."""

from typing import Any, NamedTuple

import jax

from air_jax.transforms import warp


class Result(NamedTuple):
    """The result of a registration. Its leading axes are those of the given images.

    Attributes:
      displacement: pull-back field `[*S, N]` or `[B, *S, N]`, float32, in voxels, array-index order.
      warped: the normalised moving image sampled at `grid + displacement`, in the shape of the moving image, float32 in
        [0, 1].
      out: intermediates of the model, such as attention weights, always with the batch axis.

    Examples:
      >>> fixed = np.zeros((8, 8), np.float32)
      >>> fixed[2:6, 2:6] = 1
      >>> moving = np.roll(fixed, 1, axis=0)
      >>> result = air_jax.register_images(fixed, moving, similarity="mse", refine_steps=4)
      >>> result.warped.shape, result.displacement.shape, result.out
      ((8, 8), (8, 8, 2), {})
    """

    displacement: jax.Array
    warped: jax.Array
    out: dict[str, Any]


def make_result(displacement: jax.Array, moving: jax.Array, out: dict[str, Any], shape: tuple[int, ...]) -> Result:
    """Makes the result of images of a given shape.

    Args:
      displacement: `[B, *S, N]`.
      moving: `[B, *S, C]`, normalised.
      out: intermediates of the model.
      shape: of the images as they were given: `[*S]`, `[B, *S]` or `[B, *S, C]`.
    """
    warped = warp(moving, displacement).reshape(shape)
    return Result(displacement[0] if len(shape) == displacement.shape[-1] else displacement, warped, out)
