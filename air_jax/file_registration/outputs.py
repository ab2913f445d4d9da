"""Files that the registration of two files writes: warped image, fields, segmentation and landmarks."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from air_jax import io
from air_jax.file_registration.affine_parts import physical_affine
from air_jax.file_registration.grids import cut
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.scores import transform_landmarks, warped_segmentation, warped_values
from air_jax.file_registration.slides import is_reduced, write_full_picture
from air_jax.io.image import PICTURES, suffix_of
from air_jax.io.transform import FIELD, INVERSE_FIELD, write_affine
from air_jax.io.volume import rounded_to
from air_jax.transforms.spaces import jacobian_map

SLIDE = ".tif"  # of a warped picture that is larger than the registered one: tiled, with a pyramid


class Maps(NamedTuple):
    """The maps that a registration found, on the grids of its inputs.

    Attributes:
      deformation: `[*S, N]` of the fixed grid, in its voxels; `matrix` follows it.
      matrix: `[N, N+1]` float64, fixed to moving voxels.
      whole: both together as one displacement `[*S, N]` of the fixed grid, in its voxels.
      inverse: the inverse of `whole`, `[*V, N]` of the moving grid, in its voxels.
    """

    deformation: jax.Array
    matrix: np.ndarray
    whole: jax.Array
    inverse: jax.Array


def output_names(inputs: Inputs) -> list[str]:
    """Returns the names of all files that are written for these inputs, without scores.json."""
    names = ["affine.mat", "deformation.nii.gz", FIELD, INVERSE_FIELD, "jacobian.nii.gz", "report.html", "report.png"]
    names.append(f"warped{_warped_ending(inputs)}")
    if inputs.moving.segmentation is not None:
        names.append("warped_labels.nii.gz")
    if inputs.moving.landmarks is not None:
        names.append("landmarks.csv")
    return names


def write_transforms(inputs: Inputs, maps: Maps, folder: Path) -> None:
    """Writes the maps into an existing folder: the affine alone, the deformation alone, the whole and its inverse.

    Raises:
      UserError: a file cannot be written.
    """
    fixed, moving = inputs.fixed.volume, inputs.moving.volume
    write_affine(folder / "affine.mat", physical_affine(inputs, maps.matrix))
    io.write_field(folder / "deformation.nii.gz", cut(maps.deformation, fixed.shape), fixed.affine)
    io.write_field(folder / FIELD, cut(maps.whole, fixed.shape), fixed.affine)
    io.write_field(folder / INVERSE_FIELD, cut(maps.inverse, moving.shape), moving.affine)


def write_images(inputs: Inputs, maps: Maps, folder: Path) -> None:
    """Writes what the maps make of the inputs into an existing folder: warped image, segmentation, landmarks, Jacobian.

    Raises:
      UserError: a file cannot be written.
    """
    fixed, moving = inputs.fixed.volume, inputs.moving.volume
    ending = _warped_ending(inputs)
    if ending == SLIDE:
        write_full_picture(folder / f"warped{SLIDE}", inputs, np.asarray(maps.whole))
    else:
        warped = warped_values(inputs, maps.whole)
        if ending in PICTURES:
            warped = rounded_to(warped, moving.array.dtype)
        io.write_image(folder / f"warped{ending}", warped, fixed.affine)
    io.write_image(folder / "jacobian.nii.gz", cut_jacobian(inputs, maps.whole), fixed.affine)
    if inputs.moving.segmentation is not None:
        io.write_segmentation(folder / "warped_labels.nii.gz", warped_segmentation(inputs, maps.whole), fixed.affine)
    if inputs.moving.landmarks is not None:
        carried = transform_landmarks(inputs.moving.landmarks, moving, maps.inverse)
        io.write_landmarks(folder / "landmarks.csv", carried)


def cut_jacobian(inputs: Inputs, displacement: jax.Array) -> np.ndarray:
    """Returns the Jacobian determinant `[*S]` on the fixed file's grid.

    Args:
      inputs: the files' content.
      displacement: the whole displacement of the fixed grid, in its voxels.

    Returns:
      float32. Voxels at the border have the value of their inner neighbour.
    """
    inner = cut(jacobian_map(displacement), [size - 1 for size in inputs.fixed.volume.shape])
    return np.pad(inner[(slice(1, None),) * inner.ndim], 1, mode="edge")


def _warped_ending(inputs: Inputs) -> str:
    ending, moving = suffix_of(inputs.moving.path), inputs.moving.volume
    if is_reduced(inputs) and moving.array.dtype in (np.uint8, np.uint16):
        return SLIDE
    # Pictures hold 8 or 16 bits; a TIFF of 32 bits may have values outside of their range.
    if ending in PICTURES and inputs.are_pictures and moving.array.dtype in (np.uint8, np.uint16):
        return ending
    return ".npz" if moving.array.ndim > moving.num_axes else ".nii.gz"
