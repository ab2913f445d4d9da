"""Compiled models and random parameters for the tests of models."""

import functools

import jax
import numpy as np


@functools.cache
def compiled(model):
    """`model.apply`, compiled; equal models share their programs."""
    return jax.jit(model.apply)


def perturbed(tree, size, seed=1):
    """Adds noise of standard deviation `size` to every array. NumPy's, because JAX compiles noise for every shape."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + np.float32(size) * rng.standard_normal(leaf.shape, dtype=np.float32), tree)
