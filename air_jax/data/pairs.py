"""Which image is registered to which: pairs drawn at random, each a function of its seed alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.data.dataset import Images


class Pair(NamedTuple):
    """Images that are registered to each other, and their segmentations where there are any.

    Attributes:
      fixed, moving: `[B, *S, C]`.
      fixed_segmentation, moving_segmentation: `[B, *S]` integers.
    """

    fixed: jax.Array
    moving: jax.Array
    fixed_segmentation: jax.Array | None = None
    moving_segmentation: jax.Array | None = None

    def swapped(self) -> "Pair":
        return Pair(self.moving, self.fixed, self.moving_segmentation, self.fixed_segmentation)


def draw_pairs(
    key: jax.Array, num_images: int, num_pairs: int, listed: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Draws training pairs on the device: any image to any other, never to itself (paper section 3.1).

    Args:
      key: all draws come from it.
      num_images, num_pairs: how many there are, and how many are wanted.
      listed: `[k, 2]`, fixed first; where given, pairs are drawn from these alone.

    Returns:
      Indices of the fixed and of the moving images, each `[num_pairs]`.
    """
    if listed is not None:
        chosen = listed[jax.random.randint(key, (num_pairs,), 0, len(listed))]
        return chosen[:, 0], chosen[:, 1]
    fixed_key, offset_key = jax.random.split(key)
    fixed = jax.random.randint(fixed_key, (num_pairs,), 0, num_images)
    offset = jax.random.randint(offset_key, (num_pairs,), 1, num_images)
    return fixed, jnp.mod(fixed + offset, num_images)


def step_key(seed: int, step: jax.Array) -> jax.Array:
    """The key that all draws of a training step come from."""
    return jax.random.fold_in(jax.random.key(seed), step)


def pairs_of_step(
    seed: int, step: jax.Array, num_images: int, num_pairs: int, listed: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The pairs of a training step, a function of (seed, step); see `draw_pairs`."""
    return draw_pairs(jax.random.split(step_key(seed, step))[0], num_images, num_pairs, listed)


def gather(images: Images, fixed: jax.Array | np.ndarray, moving: jax.Array | np.ndarray) -> Pair:
    """The images of pairs, by their indices of any shape, with their segmentations where there are any."""
    segmentations = images.segmentations
    labels = (None, None) if segmentations is None else (segmentations[fixed], segmentations[moving])
    return Pair(images.images[fixed], images.images[moving], *labels)


def all_pairs(num_images: int) -> np.ndarray:
    """Every image to every other: indices `[n (n - 1), 2]`, fixed first."""
    fixed, moving = np.divmod(np.arange(num_images**2), num_images)
    return np.stack([fixed, moving], axis=1)[fixed != moving]


def random_pairs(seed: int, num_images: int, num_pairs: int) -> np.ndarray:
    """A fixed list of pairs for scoring, any image to any other: indices `[num_pairs, 2]`, fixed first."""
    rng = np.random.default_rng(seed)
    fixed = rng.integers(0, num_images, num_pairs)
    offset = rng.integers(1, num_images, num_pairs)
    return np.stack([fixed, (fixed + offset) % num_images], axis=1)


def same_label_pairs(seed: int, labels: np.ndarray, num_pairs: int) -> np.ndarray:
    """A fixed list of pairs of one class for scoring: indices `[num_pairs, 2]`, fixed first; never an image to itself.

    Raises:
      ValueError: no class has two images.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    eligible = np.flatnonzero(np.isin(labels, classes[counts > 1]))
    if not eligible.size:
        raise ValueError("no label stands on two images, so there are no same-label pairs")
    fixed = rng.choice(eligible, num_pairs)
    moving = [rng.choice(np.flatnonzero((labels == labels[i]) & (np.arange(len(labels)) != i))) for i in fixed]
    return np.stack([fixed, moving], axis=1)
