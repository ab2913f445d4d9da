"""The start of a registration: the headers' own alignment, or a transform that the user gives."""

from typing import NamedTuple

import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.affine_parts import voxel_affine
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.options import Options
from air_jax.file_transforms.chain import affine_and_deformation, apply_chain
from air_jax.io.space import to_physical, to_voxels
from air_jax.io.transform import AffineMap, read_transform


class Start(NamedTuple):
    """Where a registration starts.

    Attributes:
      matrix: `[N, N+1]` float64, fixed to moving voxels.
      deformation: `[*S, N]` float32 of the fixed grid, in its voxels; `matrix` follows it. None: no deformation.
    """

    matrix: np.ndarray
    deformation: np.ndarray | None = None


def read_start(options: Options, inputs: Inputs) -> Start:
    """Reads the start of a registration.

    Args:
      options: checked options.
      inputs: the files' content.

    Returns:
      The headers' alignment where the options name no transform.

    Raises:
      UserError: one line that names the file: it is not a transform, or does not fit the images.
    """
    if options.initial is None:
        return Start(inputs.voxel_to_voxel)
    fixed, moving = inputs.fixed.volume, inputs.moving.volume
    parts, _ = read_transform(options.initial, grid=fixed)
    for part in parts:
        if part.num_axes != fixed.num_axes:
            raise UserError(f"{options.initial}: has {part.num_axes} axes, the images have {fixed.num_axes}")
    if all(isinstance(part, AffineMap) for part in parts):
        corners = np.concatenate([np.zeros((1, fixed.num_axes)), np.eye(fixed.num_axes)])
        moved = apply_chain(parts, corners)
        affine = np.concatenate([(moved[1:] - moved[0]).T, moved[:1].T], axis=1)
        if np.linalg.matrix_rank(affine[:, :-1]) < fixed.num_axes:
            raise UserError(f"{options.initial}: has no inverse; it maps different points to one")
        return Start(voxel_affine(inputs, affine))
    if options.workdir is not None:
        raise UserError(f"{options.initial}: has a deformation, and --workdir predicts one; leave one of the two out")
    voxels = np.moveaxis(np.indices(fixed.shape), 0, -1).reshape(-1, fixed.num_axes)
    moved = to_voxels(apply_chain(parts, to_physical(voxels, fixed.affine)), moving.affine)
    matrix, deformation = affine_and_deformation(voxels.astype(np.float64), moved)
    return Start(matrix, deformation.reshape(*fixed.shape, -1).astype(np.float32))
