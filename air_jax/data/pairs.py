"""Pairs of images: which image is registered to which, and the arrays of a pair.

Every draw is a function of its seed, and for training of (seed, step).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.deformation import Deformation, draw_displacements
from air_jax.transforms import warp
from air_jax.transforms.intensity import to_unit_range

Array = jax.Array | np.ndarray


class Pair(NamedTuple):
    """A batch of image pairs, with their segmentations where there are any.

    Attributes:
      fixed, moving: images `[B, *S, C]`: float32 in [0, 1], or uint8 or uint16 over the whole range of the type.
      fixed_segmentation, moving_segmentation: `[B, *S]` integers, or None.
      displacement: the true displacement `[B, *S, N]` in voxels where it is known, otherwise None.
    """

    fixed: jax.Array
    moving: jax.Array
    fixed_segmentation: jax.Array | None = None
    moving_segmentation: jax.Array | None = None
    displacement: jax.Array | None = None

    def swapped(self) -> "Pair":
        """Returns the pair with the fixed and the moving side exchanged, without the displacement."""
        return Pair(self.moving, self.fixed, self.moving_segmentation, self.fixed_segmentation)

    def segmentations(self) -> tuple[jax.Array, jax.Array]:
        """Returns the segmentations of the fixed and of the moving images.

        Raises:
          ValueError: the pair has none.
        """
        if self.fixed_segmentation is None or self.moving_segmentation is None:
            raise ValueError("the pair has no segmentations")
        return self.fixed_segmentation, self.moving_segmentation


def unit_pair(
    pair: Pair, deformation: Deformation | None = None, keys: jax.Array | None = None
) -> tuple[Pair, jax.Array | None]:
    """Brings the images of a pair to [0, 1]; with a deformation, replaces the fixed image by the deformed moving one.

    Args:
      pair: images `[B, *S, C]`, see `Pair`.
      deformation: artificial deformation of the moving image. Default: none, the fixed image stays.
      keys: random keys `[B]` of the deformations, one for each pair; needed only with `deformation`.

    Returns:
      The pair with float32 images in [0, 1], and the true displacement `[B, *S, N]` in voxels, or None without
      `deformation`. An artificial pair has no segmentations, because that of its fixed image is not known.

    Raises:
      ValueError: `deformation` is given without `keys`.
    """
    fixed, moving = (to_unit_range(jnp.asarray(image)) for image in (pair.fixed, pair.moving))
    if deformation is None:
        return pair._replace(fixed=fixed, moving=moving), None
    if keys is None:
        raise ValueError("a deformation needs keys, one for each pair")
    truth = draw_displacements(keys, moving.shape[1:-1], deformation)
    return Pair(warp(moving, truth), moving), truth


def draw_pairs(
    key: jax.Array, num_images: int, num_pairs: int, *, listed: Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Draws training pairs on the device: any image to any other, never to itself (paper section 3.1).

    Args:
      key: random key of the draw.
      num_images: number of images, at least 2.
      num_pairs: number of pairs to draw.
      listed: `[k, 2]` indices, fixed first; pairs are drawn only from these. Default: any two images make a pair.

    Returns:
      Indices of the fixed and of the moving images, each `[num_pairs]` int32.
    """
    if listed is not None:
        chosen = jnp.asarray(listed)[jax.random.randint(key, (num_pairs,), 0, len(listed))]
        return chosen[:, 0], chosen[:, 1]
    fixed_key, offset_key = jax.random.split(key)
    fixed = jax.random.randint(fixed_key, (num_pairs,), 0, num_images)
    offset = jax.random.randint(offset_key, (num_pairs,), 1, num_images)
    return fixed, jnp.mod(fixed + offset, num_images)


def step_key(seed: int, step: Array) -> jax.Array:
    """Returns the random key of a training step, from which all its draws come.

    Args:
      seed: seed of the run.
      step: number of steps before this one, an integer scalar of shape `[]`.
    """
    return jax.random.fold_in(jax.random.key(seed), step)


def pairs_of_step(
    seed: int, step: Array, num_images: int, num_pairs: int, *, listed: Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Draws the pairs of a training step, a function of (seed, step).

    Args:
      seed: seed of the run.
      step: number of steps before this one, an integer scalar of shape `[]`.
      num_images, num_pairs, listed: see `draw_pairs`.

    Returns:
      Indices of the fixed and of the moving images, each `[num_pairs]` int32.
    """
    return draw_pairs(jax.random.split(step_key(seed, step))[0], num_images, num_pairs, listed=listed)


def gather(images: Images, fixed: Array, moving: Array) -> Pair:
    """Collects the images and, where there are any, the segmentations of pairs.

    Args:
      images: all images.
      fixed, moving: indices of the fixed and of the moving images, of any one shape `[*I]`.

    Returns:
      Arrays `[*I, *S, C]`, segmentations `[*I, *S]`; NumPy arrays where `images` holds these.
    """
    arrays: list[Any] = [images.images[fixed], images.images[moving]]
    if images.segmentations is not None:
        arrays += [images.segmentations[fixed], images.segmentations[moving]]
    return Pair(*arrays)


def all_pairs(num_images: int) -> np.ndarray:
    """Lists every image with every other.

    Args:
      num_images: number n of images.

    Returns:
      Indices `[n (n - 1), 2]`, fixed first.
    """
    fixed, moving = np.divmod(np.arange(num_images**2), num_images)
    return np.stack([fixed, moving], axis=1)[fixed != moving]


def random_pairs(seed: int, num_images: int, num_pairs: int) -> np.ndarray:
    """Draws pairs for scoring: any image to any other, never to itself.

    Args:
      seed: seed of the draw.
      num_images: number of images, at least 2.
      num_pairs: number of pairs to draw.

    Returns:
      Indices `[num_pairs, 2]`, fixed first.
    """
    rng = np.random.default_rng(seed)
    fixed = rng.integers(0, num_images, num_pairs)
    offset = rng.integers(1, num_images, num_pairs)
    return np.stack([fixed, (fixed + offset) % num_images], axis=1)


def same_class_pairs(seed: int, classes: np.ndarray, num_pairs: int) -> np.ndarray:
    """Draws pairs of one class for scoring, never an image to itself.

    Args:
      seed: seed of the draw.
      classes: `[n]` class of each image.
      num_pairs: number of pairs to draw.

    Returns:
      Indices `[num_pairs, 2]`, fixed first.

    Raises:
      ValueError: no class has two images.
    """
    rng = np.random.default_rng(seed)
    found, counts = np.unique(classes, return_counts=True)
    eligible = np.flatnonzero(np.isin(classes, found[counts > 1]))
    if not eligible.size:
        raise ValueError("no class has two images, so there are no pairs of one class")
    fixed = rng.choice(eligible, num_pairs)
    moving = [rng.choice(np.flatnonzero((classes == classes[i]) & (np.arange(len(classes)) != i))) for i in fixed]
    return np.stack([fixed, moving], axis=1)
