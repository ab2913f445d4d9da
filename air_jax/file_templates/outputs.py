"""Files that the building of a template writes."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from air_jax import io
from air_jax.errors import UserError
from air_jax.file_templates.group import Group
from air_jax.file_templates.options import Options
from air_jax.file_templates.rounds import LEAST_SEEN, State, warped_images
from air_jax.io.access import writing
from air_jax.io.image import PICTURES, suffix_of
from air_jax.io.transform import FIELD, INVERSE_FIELD, write_affine
from air_jax.transforms.spaces import voxel_matrix, whole_displacement, whole_inverse

REPORT = "report.png"


def output_names(options: Options, group: Group) -> list[str]:
    """Returns the names of all files that are written, without scores.json.

    Raises:
      UserError: two subjects' files would have one name.
    """
    names = [template_name(group), REPORT]
    if options.labels is not None:
        names.append("template_labels.nii.gz")
    for subject in group.names:
        kinds = ["affine.mat", "deformation.nii.gz", FIELD, INVERSE_FIELD]
        names += [f"{subject}_{kind}" for kind in kinds]
        if options.warped:
            names.append(f"{subject}_warped.nii.gz")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--images={options.images}: two results would be named {twice[0]}; rename an image")
    return names


def template_name(group: Group) -> str:
    """`template.nii.gz`; for pictures a format without loss."""
    suffix = suffix_of(group.subjects[0].path)
    if not group.are_pictures or suffix not in PICTURES:
        return "template.nii.gz"
    return f"template{'.png' if suffix in ('.jpg', '.jpeg') else suffix}"


def write_template(group: Group, state: State, folder: Path) -> None:
    """Writes the template: NIfTI in [0, 1], pictures with 16 bits.

    Raises:
      UserError: the file cannot be written.
    """
    name, template = template_name(group), state.templates[-1]
    if suffix_of(Path(name)) in PICTURES:
        template = np.rint(template * np.iinfo(np.uint16).max).astype(np.uint16)
    io.write_image(folder / name, template, group.grid.affine)


def write_transforms(group: Group, state: State, folder: Path) -> None:
    """Writes each subject's maps as `register` does: affine, deformation, both together, and their inverse.

    Raises:
      UserError: a file cannot be written.
    """
    matrices = group.voxel_matrices(state.affines)
    for name, subject, affine, matrix, field in zip(
        group.names, group.subjects, state.affines, matrices, state.fields, strict=True
    ):
        headers = voxel_matrix(group.grid.affine, subject.volume.affine)
        field = jnp.asarray(field)
        whole = np.asarray(whole_displacement(field, matrix, headers))
        # Of the common shape, so that one program inverts all.
        inverse = np.asarray(whole_inverse(field, matrix, headers, group.images.shape[1:-1]))
        inverse = inverse[tuple(map(slice, subject.volume.shape))]
        write_affine(folder / f"{name}_affine.mat", affine)
        io.write_field(folder / f"{name}_deformation.nii.gz", np.asarray(field), group.grid.affine)
        io.write_field(folder / f"{name}_{FIELD}", whole, group.grid.affine)
        io.write_field(folder / f"{name}_{INVERSE_FIELD}", inverse, subject.volume.affine)


def write_warped(group: Group, state: State, folder: Path) -> None:
    """Writes each image on the template's grid, normalised to [0, 1], as the template is.

    Raises:
      UserError: a file cannot be written.
    """
    for name, (image, weight) in zip(group.names, warped_images(group, state.affines, state.fields), strict=True):
        values = np.where(weight > LEAST_SEEN, image / np.maximum(weight, LEAST_SEEN), group.background)
        io.write_image(folder / f"{name}_warped.nii.gz", values.astype(np.float32), group.grid.affine)


def draw_report(group: Group, state: State, folder: Path) -> None:
    """Draws the template by round."""
    from air_jax.visualize import template_figure  # imports matplotlib, which takes half a second

    names = [row["kind"] for row in state.history]
    sharpness = [row["sharpness"] for row in state.history]
    title = f"template of {len(group.names)} images"
    figure = template_figure(
        state.templates, group.grid.affine, names, sharpness, title=title, is_picture=group.are_pictures
    )
    with writing(folder / REPORT, ".png") as partial:
        figure.savefig(partial, dpi=150)
