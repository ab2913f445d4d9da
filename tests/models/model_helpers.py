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
    rng, size = np.random.default_rng(seed), np.float32(size)
    return jax.tree.map(lambda a: np.asarray(a) + size * rng.standard_normal(a.shape, dtype=np.float32), tree)


def random_variables(model, *images, seed=1):
    """Random variables of a model whose outputs are not 0. Unlike those of `init`, nothing is compiled for them."""
    rng = np.random.default_rng(seed)

    def of(path, leaf):
        values, name = rng.standard_normal(leaf.shape, dtype=np.float32), path[-1].key
        if name == "kernel":
            return values / np.float32(np.sqrt(leaf.size / leaf.shape[-1]))
        return 0.1 * values + (1 if name == "scale" else 0)

    return jax.tree_util.tree_map_with_path(of, jax.eval_shape(model.init, jax.random.key(0), *images))
