"""Matching: each fixed token's softmax over the moving tokens of its window, and their mean offset."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.models.layers.window_scores import window_scores
from air_jax.runtime.xla_layout import apart, in_order


class Match(NamedTuple):
    """Where the fixed tokens find themselves in the moving image. K offsets, H heads, N axes.

    Attributes:
      offset: `[B, *G, H, N]`, mean offset of the moving tokens, weighted by attention, in tokens.
      weights: `[B, *G, H, K]`, attention weights; they sum to 1 over the K offsets of `window_offsets`.
      entropy: `[B, *G, H]`, entropy of the weights; 0 where all weight lies on one moving token.
    """

    offset: jax.Array
    weights: jax.Array
    entropy: jax.Array


def window_offsets(radius: int, num_axes: int) -> np.ndarray:
    """Returns the offsets of a window, in tokens: `[(2 radius + 1)**N, N]`, the last axis fastest."""
    return np.array(list(itertools.product(range(-radius, radius + 1), repeat=num_axes)))


def match_windows(
    fixed: jax.Array, moving: jax.Array, temperature: jax.Array, bias: jax.Array, *, radius: int
) -> Match:
    """Matches each fixed token to the moving tokens of the window around it.

    For features `f` and `m`, offsets `o` of at most `radius` tokens along each axis, temperature `t` and bias `b`:

        w(p, o) = softmax_o(b(o) - t |f(p) - m(p + o)|^2)        u(p) = sum_o w(p, o) o

    The moving features at the border continue outside, so tokens of a flat image have the offset 0 for a symmetric
    bias.

    Args:
      fixed: features `[B, *G, H, D]` of H heads on a grid `G` of tokens.
      moving: the same shape.
      temperature: `[H]`, at least 0.
      bias: `[H, K]`, one number for each of the K `window_offsets`.
      radius: largest offset along an axis, in tokens.

    Returns:
      The match of every fixed token.
    """
    grid = fixed.shape[1:-2]
    num_axes = len(grid)
    offsets = window_offsets(radius, num_axes)
    padded_grid = [size + 2 * radius for size in grid]
    strides = np.append(np.cumprod(padded_grid[:0:-1])[::-1], 1)
    shifts = tuple(int(shift) for shift in offsets @ strides)

    def features_first(features):  # [B, *G, H, D] to [H, D, B, *G]
        return in_order(jnp.moveaxis(features, (-2, -1), (0, 1)))

    def flat(features):  # [H, D, B, *padded G] to [H, D, B, L]
        return features.reshape(*features.shape[:3], -1)

    # The squared distance without the fixed token's own norm, which no softmax sees: |m|^2 - 2 f m.
    keys = features_first(moving)
    keys = jnp.concatenate([2 * keys, -jnp.sum(jnp.square(keys), axis=1, keepdims=True)], axis=1)
    for axis in range(3, 3 + num_axes):
        keys = extend(keys, radius, axis)
    queries = features_first(fixed)
    queries = jnp.concatenate([queries, jnp.ones_like(queries[:, :1])], axis=1)
    queries = jnp.pad(queries, [(0, 0)] * 3 + [(radius, radius)] * num_axes)

    scores = window_scores(flat(queries * temperature.reshape(-1, *(1,) * (queries.ndim - 1))), flat(keys), shifts)
    logits = scores + bias[:, :, None, None]
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    shifted, exponentials = apart((logits - largest, jnp.exp(logits - largest)))
    total = jnp.sum(exponentials, axis=1)
    sums = [jnp.sum(exponentials * _along(offsets[:, axis]), axis=1) for axis in range(num_axes)]
    entropy = jnp.log(total) - jnp.sum(exponentials * shifted, axis=1) / total
    values = jnp.stack([*(one / total for one in sums), entropy], axis=1)

    def on_grid(flat_values):  # [H, F, B, L] to [B, *G, H, F]
        values = flat_values.reshape(*flat_values.shape[:3], *padded_grid)
        values = values[(slice(None),) * 3 + tuple(slice(radius, radius + size) for size in grid)]
        return jnp.moveaxis(values, (0, 1), (-2, -1))

    values = on_grid(values)
    return Match(values[..., :-1], on_grid(exponentials / total[:, None]), values[..., -1])


def _along(numbers: np.ndarray) -> jax.Array:
    """K numbers as an array that multiplies `[H, K, B, L]`."""
    return jnp.asarray(numbers, jnp.float32)[None, :, None, None]


def extend(array: jax.Array, count: int, axis: int) -> jax.Array:
    """Repeats the first and the last entry along an axis `count` times."""
    first, last = (jax.lax.slice_in_dim(array, at, at + 1, axis=axis) for at in (0, array.shape[axis] - 1))
    return jnp.concatenate([first] * count + [array] + [last] * count, axis=axis)


def neighbours(tokens: jax.Array) -> jax.Array:
    """Appends the features of the two neighbours along each axis: `[B, *G, F]` to `[B, *G, (1 + 2 N) F]`.

    The tokens at the border continue outside.
    """
    parts: list[jax.Array] = [tokens]
    for axis in range(1, tokens.ndim - 1):
        extended, size = extend(tokens, 1, axis), tokens.shape[axis]
        parts += [jax.lax.slice_in_dim(extended, start, start + size, axis=axis) for start in (0, 2)]
    return jnp.concatenate(parts, axis=-1)


def attention_matrix(weights: np.ndarray, radius: int) -> np.ndarray:
    """Writes the windows' attention of one pair as a matrix over all tokens, for a figure of a small grid.

    Args:
      weights: `[*G, H, K]`, attention weights of each fixed token's window.
      radius: radius of the window, in tokens.

    Returns:
      `[H, T, T]` with `T = prod(G)`: fixed tokens first, then moving tokens; each row sums to 1. The weight of offsets
      that lead out of the grid is that of the token at the border, whose features continue outside.
    """
    *grid, heads, _ = weights.shape
    places = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).reshape(-1, 1, len(grid))
    reached = np.clip(places + window_offsets(radius, len(grid)), 0, np.array(grid) - 1)
    columns = np.ravel_multi_index(tuple(np.moveaxis(reached, -1, 0)), tuple(grid))
    matrix = np.zeros((heads, len(places), len(places)), weights.dtype)
    rows = np.arange(len(places))[:, None]
    for head in range(heads):
        np.add.at(matrix[head], (rows, columns), weights[..., head, :].reshape(len(places), -1))
    return matrix
