"""Image, displacement field and landmark files, all in ITK's physical space (mm, LPS, x first)."""

from air_jax.io.arrays import Stack, read_stack, write_stack
from air_jax.io.field import read_field, write_field
from air_jax.io.image import read_image, write_image
from air_jax.io.landmarks import read_landmarks, write_landmarks
from air_jax.io.space import to_physical, to_voxels
from air_jax.io.volume import Volume

__all__ = [
    "Stack",
    "Volume",
    "read_field",
    "read_image",
    "read_landmarks",
    "read_stack",
    "to_physical",
    "to_voxels",
    "write_field",
    "write_image",
    "write_landmarks",
    "write_stack",
]
