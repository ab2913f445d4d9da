"""Which image is registered to which: pairs drawn at random, each a function of its seed alone."""

import jax
import jax.numpy as jnp
import numpy as np


def draw_pairs(key: jax.Array, num_images: int, num_pairs: int) -> tuple[jax.Array, jax.Array]:
    """Draws training pairs on the device: any image to any other, never to itself (paper section 3.1).

    Returns:
      Indices of the fixed and of the moving images, each `[num_pairs]`.
    """
    fixed_key, offset_key = jax.random.split(key)
    fixed = jax.random.randint(fixed_key, (num_pairs,), 0, num_images)
    offset = jax.random.randint(offset_key, (num_pairs,), 1, num_images)
    return fixed, jnp.mod(fixed + offset, num_images)


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
