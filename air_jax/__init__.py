"""Attention for Image Registration in JAX and Flax.

Arrays: images are `[B, *S, C]` float32 in [0, 1]; displacements are pull-back fields `[B, *S, N]` in voxels and
array-index order, `warped(p) = moving(p + displacement(p))`; `S` is `(H, W)` or `(D, H, W)`.
"""

from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.models import AiR
from air_jax.registration import Registration, Result, load
from air_jax.transforms import warp

__all__ = ["AiR", "Registration", "Result", "UserError", "__version__", "load", "warp"]
