"""Learns through the registration which of two channels counts: `python -m experiments.learned_similarity.run`."""

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.optimize import register_affine


def pairs(count=4, size=16):
    """Blobs `[B, H, W, 2]` that move by a voxel along the rows; the second channel moves the other way, an artefact."""
    centres = np.random.default_rng(0).uniform(6, 10, (count, 1, 1, 2))
    offsets = np.stack(np.mgrid[:size, :size], axis=-1) - centres
    blobs = [np.exp(-np.sum((offsets - [shift, 0]) ** 2, axis=-1) / 12).astype(np.float32) for shift in (0, 1, -1)]
    return np.stack([blobs[0]] * 2, axis=-1), np.stack(blobs[1:], axis=-1)


def error(logit, fixed, moving):
    """Mean distance in voxels of the translation found from the true one, (1, 0)."""
    weights = jax.nn.sigmoid(jnp.stack([logit, -logit]))[None, None, None]
    compare = jax.tree_util.Partial(lambda w, f, m: jnp.mean(w * (f - m) ** 2, axis=(1, 2, 3)), weights)
    found = register_affine(compare, fixed, moving, kind="translation")[..., -1]
    return jnp.mean(jnp.linalg.norm(found - jnp.array([[1.0, 0.0]]), axis=-1))


def learn(num_steps=6):
    """Returns the weight of the first channel and the error at each step of gradient descent."""
    logit, step, history = 0.0, jax.jit(jax.value_and_grad(error)), []
    for _ in range(num_steps):
        value, gradient = step(logit, *pairs())
        history.append((float(jax.nn.sigmoid(logit)), float(value)))
        logit -= 2.0 * gradient
    return history


if __name__ == "__main__":
    for weight, value in learn():
        print(f"weight of the true channel {weight:.2f}, error {value:.2f} voxels")
