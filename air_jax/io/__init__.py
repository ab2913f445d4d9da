"""Reads and writes images, segmentations, displacement fields and landmarks.

All physical coordinates are ITK's: mm, LPS, x first. For pictures they are pixels: x is the column, y the row.
"""

from air_jax.io.arrays import Stack, read_stack, write_stack
from air_jax.io.field import read_field, write_field
from air_jax.io.image import read_image, read_segmentation, write_image, write_segmentation
from air_jax.io.landmarks import count_outside, read_landmarks, write_landmarks
from air_jax.io.space import to_physical, to_voxels
from air_jax.io.subject import Subject, check_pair, read_subject
from air_jax.io.volume import Volume

__all__ = [
    "Stack",
    "Subject",
    "Volume",
    "check_pair",
    "count_outside",
    "read_field",
    "read_image",
    "read_landmarks",
    "read_segmentation",
    "read_stack",
    "read_subject",
    "to_physical",
    "to_voxels",
    "write_field",
    "write_image",
    "write_landmarks",
    "write_segmentation",
    "write_stack",
]
