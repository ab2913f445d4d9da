"""One image that becomes another through the displacement that a registration found, as an animated picture."""

import io

import jax.numpy as jnp
import numpy as np
from PIL import Image

from air_jax.checks import check_arrays, check_integer, check_number
from air_jax.transforms import compose, inverse, warp

NUM_COLORS = 32  # of each frame; fewer make smaller files


def morph_frames(
    fixed: np.ndarray, moving: np.ndarray, displacement: np.ndarray, *, num_frames: int = 16
) -> np.ndarray:
    """Moves the fixed image to the moving one along straight lines, and fades from one to the other on the way.

    At the share s both images lie on the grid of `moving` warped by `(1 - s) u`: the fixed image follows the inverse of
    the map, so that their structures coincide in every frame.

    Args:
      fixed, moving: `[B, H, W, C]` in [0, 1], C of 1 or 3.
      displacement: `u` `[B, H, W, 2]` in pixels, of `moving` to `fixed`. It should not fold.
      num_frames: T, at least 2.

    Returns:
      `[T, B, H, W, C]` in [0, 1], from the fixed image to the moving one.

    Raises:
      OptionError: fewer than 2 frames.
      TypeError, ValueError: an argument is no array.

    Examples:
      >>> image, displacement = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 2))
      >>> frames = air_jax.visualize.morph_frames(image, image + 1, displacement, num_frames=3)
      >>> frames[:, 0, 4, 4, 0].tolist()
      [0.0, 0.5, 1.0]
    """
    check_arrays("morph_frames", "fiub", fixed=fixed, moving=moving, displacement=displacement)
    check_integer("num_frames", num_frames, 2)
    images, field = (jnp.asarray(fixed), jnp.asarray(moving)), jnp.asarray(displacement)
    back, _ = inverse(field)
    left = compose(back, field)  # of the inverse, not 0 where the map compresses much; frame 0 is without it
    frames = []
    for share in np.linspace(0, 1, num_frames):
        part = (1 - share) * field
        # From p to p + part(p) in the moving image, and from there to the fixed one.
        to_fixed = compose(back, part) - (1 - share) * left
        frame = (1 - share) * warp(images[0], to_fixed) + share * warp(images[1], part)
        frames.append(np.clip(np.asarray(frame), 0, 1))
    return np.stack(frames)


def morph_gif(
    fixed: np.ndarray,
    moving: np.ndarray,
    displacement: np.ndarray,
    *,
    num_frames: int = 16,
    seconds: float = 1.5,
    scale: int = 1,
) -> bytes:
    """Makes an animated GIF that goes from the fixed images to the moving ones and back, for ever.

    Args:
      fixed, moving, displacement, num_frames: see `morph_frames`; the B pairs stand side by side.
      seconds: time of one way. Default: 1.5.
      scale: side of a pixel of the images in pixels of the GIF. Default: 1.

    Returns:
      The content of the file.

    Raises:
      OptionError: a number that is too small.
      TypeError, ValueError: an argument is no array.

    Examples:
      >>> image, displacement = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 2))
      >>> air_jax.visualize.morph_gif(image, image + 1, displacement, num_frames=3)[:6]
      b'GIF89a'
    """
    check_number("seconds", seconds, positive=True)
    check_integer("scale", scale, 1)
    frames = morph_frames(fixed, moving, displacement, num_frames=num_frames)
    rows = np.concatenate(np.moveaxis(frames, 1, 0), axis=2)  # [T, H, B W, C]
    pixels = np.rint(255 * rows).astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
    pictures = [
        Image.fromarray(frame if frame.shape[-1] == 3 else frame[..., 0]).quantize(NUM_COLORS) for frame in pixels
    ]
    pause, step = 500, round(1000 * seconds / num_frames)  # ms
    times = [pause, *[step] * (num_frames - 2), pause, *[step] * (num_frames - 2)]
    encoded = io.BytesIO()
    pictures[0].save(
        encoded, "GIF", save_all=True, append_images=[*pictures[1:], *pictures[-2:0:-1]], duration=times, loop=0
    )
    return encoded.getvalue()
