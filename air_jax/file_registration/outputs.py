"""Files that the registration of two files writes: warped image, fields, segmentation, landmarks and report."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import io
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.scores import Scores, transform_landmarks
from air_jax.io.image import PICTURES, suffix_of
from air_jax.transforms.spaces import jacobian_map, sample_moving, sample_segmentation


def write_outputs(inputs: Inputs, displacement: jax.Array, inverse: jax.Array, folder: Path) -> None:
    """Writes the results into an existing folder and removes results of an earlier registration that have other names.

    Args:
      inputs: the files' content.
      displacement: the whole displacement `[*S, N]` of the fixed grid, in its voxels.
      inverse: its inverse `[*V, N]`, of the moving grid, in its voxels.
      folder: the output folder.

    Raises:
      UserError: a file cannot be written.
    """
    fixed, moving = inputs.fixed.volume, inputs.moving.volume
    for stale in [*folder.glob("warped.*"), folder / "warped_labels.nii.gz", folder / "landmarks.csv"]:
        stale.unlink(missing_ok=True)
    warped = np.asarray(sample_moving(moving.array.astype(np.float32), displacement, inputs.voxel_to_voxel))
    ending = suffix_of(inputs.moving.path)
    # Pictures hold 8 or 16 bits; a TIFF of 32 bits may have values outside of their range.
    if ending in PICTURES and inputs.are_pictures and moving.array.dtype in (np.uint8, np.uint16):
        warped = np.round(warped).astype(moving.array.dtype)
    else:
        ending = ".npz" if warped.ndim > fixed.num_axes else ".nii.gz"
    io.write_image(folder / f"warped{ending}", warped, fixed.affine)
    io.write_field(folder / "displacement.nii.gz", np.asarray(displacement), fixed.affine)
    io.write_field(folder / "inverse_displacement.nii.gz", np.asarray(inverse), moving.affine)
    io.write_image(folder / "jacobian.nii.gz", np.asarray(jacobian_map(displacement)), fixed.affine)
    if inputs.moving.segmentation is not None:
        segmentation = sample_segmentation(inputs.moving.segmentation, displacement, inputs.voxel_to_voxel)
        io.write_segmentation(folder / "warped_labels.nii.gz", segmentation, fixed.affine)
    if inputs.moving.landmarks is not None:
        io.write_landmarks(folder / "landmarks.csv", transform_landmarks(inputs.moving.landmarks, moving, inverse))


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
    partial = folder / "report.partial.png"
    figure.savefig(partial, dpi=150)
    partial.replace(folder / "report.png")
