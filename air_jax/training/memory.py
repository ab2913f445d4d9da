"""Sizes that a config asks for, compared with the memory that there is before anything is allocated."""

import math

import jax

from air_jax.errors import UserError
from air_jax.io.memory import available_memory, size_text

_STATES = 4  # of each parameter: its value, its gradient, and Adam's two moments
_FLOAT = 4  # bytes


def check_batch(batch_size: int, image_shape: tuple[int, ...]) -> None:
    """Checks that the images of a step fit into memory.

    Args:
      batch_size: pairs of a step.
      image_shape: `(*S, C)`.

    Raises:
      UserError: they do not.
    """
    _check(f"--config.batch_size={batch_size}", 2 * batch_size * math.prod(image_shape) * _FLOAT, "a smaller batch")


def check_parameters(params: object) -> None:
    """Checks that a model's parameters fit into memory, with what training keeps of each.

    Args:
      params: tree of arrays, or of their shapes.

    Raises:
      UserError: they do not.
    """
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    _check(f"--config.model: {count:,} parameters", count * _STATES * _FLOAT, "a smaller model")


def _check(what: str, needed: int, advice: str) -> None:
    statistics = jax.local_devices()[0].memory_stats() or {}
    available = statistics.get("bytes_limit") or available_memory()
    if available is not None and needed > available:
        raise UserError(
            f"{what}: needs {size_text(needed)} of memory, {size_text(available)} are available; take {advice}"
        )
