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

from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.models import AiR
from air_jax.registration import Registration, Result, load, without_model
from air_jax.transforms import warp

__all__ = ["AiR", "Registration", "Result", "UserError", "__version__", "load", "warp", "without_model"]
