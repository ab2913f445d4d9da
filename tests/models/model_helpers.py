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


def random_variables(model, *images, seed=1):
    """Random variables of a model whose outputs are not 0. Unlike those of `init`, nothing is compiled for them."""
    rng = np.random.default_rng(seed)

    def noise(path, leaf):
        values = rng.standard_normal(leaf.shape, dtype=np.float32)
        name = path[-1].key
        return (
            values / np.float32(np.sqrt(leaf.size / leaf.shape[-1]))
            if name == "kernel"
            else 0.1 * values + (name == "scale")
        )

    return jax.tree_util.tree_map_with_path(noise, jax.eval_shape(model.init, jax.random.key(0), *images))
