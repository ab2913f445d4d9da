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


def step_key(seed: int, step: jax.Array) -> jax.Array:
    """The key that all draws of a training step come from."""
    return jax.random.fold_in(jax.random.key(seed), step)


def pairs_of_step(seed: int, step: jax.Array, num_images: int, num_pairs: int) -> tuple[jax.Array, jax.Array]:
    """The pairs of a training step, a function of (seed, step); see `draw_pairs`."""
    return draw_pairs(jax.random.split(step_key(seed, step))[0], num_images, num_pairs)


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
