"""Files that the registration of two files writes: warped image, fields, segmentation, landmarks and report."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import io
from air_jax.file_registration.affine_parts import physical_affine
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.scores import Scores, transform_landmarks, warped_values
from air_jax.io.access import writing
from air_jax.io.image import PICTURES, suffix_of
from air_jax.io.transform import FIELD, INVERSE_FIELD, write_affine
from air_jax.transforms.spaces import jacobian_map, sample_moving, sample_segmentation


class Maps(NamedTuple):
    """The maps that a registration found.

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
    names = ["affine.mat", "deformation.nii.gz", FIELD, INVERSE_FIELD, "jacobian.nii.gz", "report.png"]
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
    io.write_field(folder / "deformation.nii.gz", np.asarray(maps.deformation), fixed.affine)
    io.write_field(folder / FIELD, np.asarray(maps.whole), fixed.affine)
    io.write_field(folder / INVERSE_FIELD, np.asarray(maps.inverse), moving.affine)


def write_images(inputs: Inputs, maps: Maps, folder: Path) -> None:
    """Writes what the maps make of the inputs into an existing folder: warped image, segmentation, landmarks, Jacobian.

    Raises:
      UserError: a file cannot be written.
    """
    fixed, moving = inputs.fixed.volume, inputs.moving.volume
    warped = warped_values(inputs, maps.whole)
    ending = _warped_ending(inputs)
    if ending in PICTURES:
        warped = np.round(warped).astype(moving.array.dtype)
    io.write_image(folder / f"warped{ending}", warped, fixed.affine)
    io.write_image(folder / "jacobian.nii.gz", np.asarray(jacobian_map(maps.whole)), fixed.affine)
    if inputs.moving.segmentation is not None:
        segmentation = sample_segmentation(inputs.moving.segmentation, maps.whole, inputs.voxel_to_voxel)
        io.write_segmentation(folder / "warped_labels.nii.gz", segmentation, fixed.affine)
    if inputs.moving.landmarks is not None:
        carried = transform_landmarks(inputs.moving.landmarks, moving, maps.inverse)
        io.write_landmarks(folder / "landmarks.csv", carried)


def _warped_ending(inputs: Inputs) -> str:
    ending, moving = suffix_of(inputs.moving.path), inputs.moving.volume
    # Pictures hold 8 or 16 bits; a TIFF of 32 bits may have values outside of their range.
    if ending in PICTURES and inputs.are_pictures and moving.array.dtype in (np.uint8, np.uint16):
        return ending
    return ".npz" if moving.array.ndim > moving.num_axes else ".nii.gz"


def draw_report(inputs: Inputs, displacement: jax.Array, scores: Scores, folder: Path) -> None:
    """Draws `report.png` into an existing folder, see `air_jax.visualize.report_figure`.

    Args:
      inputs: the files' content.
      displacement: the whole displacement `[*S, N]` of the fixed grid, in its voxels.
      scores: holds `before` and `after`.
      folder: the output folder.
    """
    from air_jax.visualize import report_figure  # imports matplotlib, which takes half a second

    before, after = (
        np.asarray(sample_moving(inputs.moving_image[0], field, inputs.voxel_to_voxel))[..., 0]
        for field in (jnp.zeros_like(displacement), displacement)
    )
    figure = report_figure(
        np.asarray(inputs.fixed_image)[0, ..., 0],
        before,
        after,
        np.asarray(displacement),
        spacing=inputs.fixed.volume.spacing.tolist(),
        title=f"{inputs.moving.path.name} registered to {inputs.fixed.path.name}",
        is_picture=inputs.are_pictures,
        scores=scores,
    )
    with writing(folder / "report.png", ".png") as partial:
        figure.savefig(partial, dpi=150)
