"""Attention for Image Registration in JAX and Flax.

Arrays: images are `[B, *S, C]` float32 in [0, 1]; displacements are pull-back fields `[B, *S, N]` in voxels and
array-index order, `warped(p) = moving(p + displacement(p))`; `S` is `(H, W)` or `(D, H, W)`.
"""

import os
import sys

if sys.version_info < (3, 12):
    # JAX 0.10, the last one for Python 3.11, logs an error for every program that it reads from its cache on a CPU, and
    # runs it all the same. It asks for this level only once, when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import importlib
from types import ModuleType

from air_jax.runtime import interrupts

if interrupts.is_command(sys.orig_argv):
    interrupts.watch()  # before the imports that take seconds

from air_jax import io, losses, metrics, models, optimize, transforms
from air_jax._version import __version__
from air_jax.errors import OptionError, UserError
from air_jax.models import AiR
from air_jax.registration import (
    Registration,
    Result,
    feature_similarity,
    load,
    load_pretrained,
    register_images,
    without_model,
)
from air_jax.transforms import warp

__all__ = [
    "AiR",
    "OptionError",
    "Registration",
    "Result",
    "UserError",
    "__version__",
    "feature_similarity",
    "io",
    "load",
    "load_pretrained",
    "losses",
    "metrics",
    "models",
    "optimize",
    "register_images",
    "transforms",
    "warp",
    "without_model",
]

# Imported on first use: they need more than JAX.
_LAZY = ("data", "visualize")


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY:
        return importlib.import_module(f"air_jax.{name}")
    raise AttributeError(f"module 'air_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
