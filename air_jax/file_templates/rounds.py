"""Rounds of a template: register each image to it, centre the maps, average.

The scheme is that of Avants et al. (2010, The optimal template effect in hippocampus studies of diseased populations)
and Joshi et al. (2004, Unbiased diffeomorphic atlas construction).
"""

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from air_jax.errors import UserError
from air_jax.file_registration.solve import TOLERANCE
from air_jax.file_templates.group import Group
from air_jax.file_templates.maps import centred_affines, centred_fields
from air_jax.file_templates.options import Options
from air_jax.io.memory import available_memory
from air_jax.losses import SIMILARITIES, make_objective
from air_jax.optimize import DenseField, Geometry, refine, register_affine
from air_jax.registration.from_zero import AFFINE_SIMILARITY
from air_jax.transforms import apply_affine, identity_grid, sample

# The mean is sharpened by adding this share of its difference from itself smoothed by a Gaussian of so many voxels.
SHARPENING, SHARPENING_SIGMA = 0.5, 1.0
LEAST_SEEN = 1e-3  # of an image's weight; less is outside of all images
# Voxels that a batch holds: of a CPU, whose caches small images share; and bytes of a device's memory for each voxel.
CPU_VOXELS, DEVICE_BYTES = 2**14, 400
SECONDS_BETWEEN_LINES = 2.0


class State(NamedTuple):
    """What the rounds have reached.

    Attributes:
      affines: `[n, N, N+1]` float64, physical points of the template to those of each subject.
      fields: `[n, *S, N]` float32, the deformations in voxels of the grid; the affines follow them.
      templates: `[r, *S]` float32 in [0, 1], the template of each round; the first is the start.
      coverage: `[*S]` float32, the share of the images that show each voxel of the last template.
      history: measurements of each round, one a template.
    """

    affines: np.ndarray
    fields: np.ndarray
    templates: np.ndarray
    coverage: np.ndarray
    history: list[dict[str, Any]]


def start(group: Group) -> State:
    """Returns the state before any round: the mean of the images at their starts, not sharpened."""
    shape = group.grid.shape
    fields = np.zeros((len(group.names), *shape, len(shape)), np.float32)
    template, coverage = average(group, group.starts, fields, sharpened=False)
    history = [{"kind": "start"} | measures(group, template, coverage, None, fields)]
    return State(group.starts, fields, template[None], coverage, history)


def affine_round(group: Group, options: Options, state: State, number: int) -> State:
    """Registers each image to the template by an affine map, and makes the mean of the maps the identity.

    Raises:
      UserError: the map of a subject mirrors or turns by 180 degrees.
    """
    template, coverage = state.templates[-1][None, ..., None], state.coverage[None]
    matrices, found = group.voxel_matrices(state.affines), []
    spacing = tuple(np.linalg.norm(group.grid.affine[:-1, :-1], axis=0).tolist())
    label = f"affine round {number} of {options.affine_rounds}"
    for indices, count in _chunks(group, label, options.affine_rounds - number):
        repeated = (len(indices), *template.shape[1:])
        result = register_affine(
            SIMILARITIES[AFFINE_SIMILARITY],
            jnp.broadcast_to(template, repeated),
            jnp.asarray(group.images[indices]),
            kind=options.affine,
            geometry=Geometry(jnp.asarray(matrices[indices], jnp.float32), spacing, group.voxel_size),
            weights=jnp.broadcast_to(coverage, repeated[:-1]),
            moving_weights=jnp.asarray(group.weights[indices]),
        )
        found.append(np.asarray(result, np.float64)[:count])
    affines = group.physical_maps(np.concatenate(found))
    affines[..., -1] -= group.place
    try:
        affines, _ = centred_affines(affines)
    except ValueError as error:
        path = group.subjects[int(str(error))].path
        raise UserError(
            f"{path}: its map to the others mirrors or turns it by 180 degrees; correct its header, or leave it out"
        ) from error
    affines[..., -1] += group.place
    return _next(group, state, affines, state.fields, "affine")


def deformable_round(group: Group, options: Options, state: State, number: int) -> State:
    """Registers each image to the template by a deformation, and makes the mean of the deformations zero."""
    template, coverage = state.templates[-1][None, ..., None], state.coverage[None]
    matrices, fields = group.voxel_matrices(state.affines), np.empty_like(state.fields)
    spacing = tuple(np.linalg.norm(group.grid.affine[:-1, :-1], axis=0).tolist())
    objective, field = make_objective(options.similarity), DenseField().scaled(options.smoothness)
    label = f"deformable round {number} of {options.rounds}"
    for indices, count in _chunks(group, label, options.rounds - number):
        repeated = (len(indices), *template.shape[1:])
        solution = refine(
            objective,
            jnp.broadcast_to(template, repeated),
            jnp.asarray(group.images[indices]),
            jnp.asarray(state.fields[indices]),
            num_steps=options.refine_steps,
            field=field,
            geometry=Geometry(jnp.asarray(matrices[indices], jnp.float32), spacing, group.voxel_size),
            tolerance=TOLERANCE,
            weights=jnp.broadcast_to(coverage, repeated[:-1]),
            moving_weights=jnp.asarray(group.weights[indices]),
        )
        fields[indices[:count]] = np.asarray(solution.displacement)[:count]
    return _next(group, state, state.affines, centred_fields(fields), "deformable", bias=_mean_length(group, fields))


def average(
    group: Group, affines: np.ndarray, fields: np.ndarray, *, sharpened: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Averages the warped images, each voxel over those that show it.

    Args:
      group: the images.
      affines, fields: as in `State`.
      sharpened: whether the mean is sharpened: `m + SHARPENING (m - smooth(m, SHARPENING_SIGMA))`, cut off at 0 and 1.

    Returns:
      The mean `[*S]` float32 in [0, 1], and the share of the images that show each voxel, `[*S]`.
    """
    total, seen = np.zeros((2, *group.grid.shape))
    for image, weight in warped_images(group, affines, fields):
        total += image
        seen += weight
    mean = np.where(seen > LEAST_SEEN, total / np.maximum(seen, LEAST_SEEN), group.background)
    if sharpened:
        mean += SHARPENING * (mean - scipy.ndimage.gaussian_filter(mean, SHARPENING_SIGMA, mode="nearest"))
    return np.clip(mean, 0, 1).astype(np.float32), np.clip(seen / len(group.names), 0, 1).astype(np.float32)


def warped_images(group: Group, affines: np.ndarray, fields: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields each image on the template's grid, interpolated once: its values times its weights, and its weights.

    Args:
      group: the images.
      affines, fields: as in `State`.
    """
    matrices = group.voxel_matrices(affines)
    for image, weight, field, matrix in zip(group.images, group.weights, fields, matrices, strict=True):
        stacked = np.concatenate([image * weight[..., None], weight[..., None]], axis=-1)
        warped = np.asarray(_sampled(stacked[None], field[None], jnp.asarray(matrix, jnp.float32)[None])[0])
        yield warped[..., 0], warped[..., 1]


def measures(
    group: Group,
    template: np.ndarray,
    coverage: np.ndarray,
    before: np.ndarray | None,
    fields: np.ndarray,
    bias: float | None = None,
) -> dict[str, float]:
    """Measures a template and the deformations that lead to the images. Lengths are in mm, for pictures in pixels.

    Args:
      group: the images.
      template: `[*S]`.
      coverage: `[*S]`, as in `State`.
      before: the template of the round before, or None.
      fields: `[n, *S, N]`, as in `State`.
      bias: mean length of the mean deformation before it was made zero.

    Returns:
      `sharpness`: see `sharpness`, over voxels that all images show. `change`: root of
      the mean squared difference from the round before. `displacement_mean`: mean length of the deformations.
      `mean_displacement`: mean length of their mean. `mean_displacement_before`: `bias`.
    """
    unit = "pixels" if group.are_pictures else "mm"
    seen = scipy.ndimage.binary_erosion(coverage > 1 - LEAST_SEEN, border_value=1)
    values = {"sharpness": sharpness(template, np.linalg.norm(group.grid.affine[:-1, :-1], axis=0), where=seen)}
    if before is not None:
        values["change"] = float(np.sqrt(np.mean((template - before) ** 2)))
    lengths = [float(np.linalg.norm(field @ group.grid.affine[:-1, :-1].T, axis=-1).mean()) for field in fields]
    values[f"displacement_mean_{unit}"] = float(np.mean(lengths))
    values[f"mean_displacement_{unit}"] = _mean_length(group, fields)
    if bias is not None:
        values[f"mean_displacement_before_{unit}"] = bias
    return values


def sharpness(image: np.ndarray, spacing: np.ndarray, *, where: np.ndarray | None = None) -> float:
    """Returns the root of the mean squared gradient of an image `[*S]`, divided by the deviation of its values.

    It does not depend on brightness and contrast, and falls where edges blur.

    Args:
      image: `[*S]`.
      spacing: `[N]`, the voxel size, the unit of length.
      where: `[*S]` booleans, the voxels that count. Default, and where none does: all.
    """
    squares = np.sum(np.square(np.gradient(image.astype(np.float64), *spacing)), axis=0)
    counted = np.ones(image.shape, bool) if where is None or not where.any() else where
    return float(np.sqrt(squares[counted].mean()) / max(image[counted].std(dtype=np.float64), 1e-12))


def _next(
    group: Group, state: State, affines: np.ndarray, fields: np.ndarray, kind: str, bias: float | None = None
) -> State:
    template, coverage = average(group, affines, fields)
    row = {"kind": kind} | measures(group, template, coverage, state.templates[-1], fields, bias)
    templates = np.concatenate([state.templates, template[None]])
    return State(affines, fields, templates, coverage, [*state.history, row])


def _mean_length(group: Group, fields: np.ndarray) -> float:
    mean = fields.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(mean @ group.grid.affine[:-1, :-1].T, axis=-1).mean())


def _chunks(group: Group, label: str, rounds_left: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the indices of the subjects of each batch, the last one filled up, and how many are new; says progress."""
    total, size = len(group.names), _chunk_size(group)
    begun, said, compiled = time.perf_counter(), 0.0, 0.0
    for first in range(0, total, size):
        count = min(size, total - first)
        yield np.minimum(np.arange(first, first + size), total - 1), count
        done, elapsed = first + count, time.perf_counter() - begun
        compiled = compiled or elapsed  # the first batch also waits for the compiler, which tells nothing of the others
        if elapsed - said > SECONDS_BETWEEN_LINES or done == total:
            said, line = elapsed, f"{label}: {done} of {total} images, {elapsed:.0f} s"
            if done > size:
                left = (elapsed - compiled) / (done - size) * (total * (1 + rounds_left) - done)
                line += f", {left:.0f} s left of these rounds"
            print(line, flush=True)


def _chunk_size(group: Group) -> int:
    """The number of images that are registered together."""
    voxels = max(math.prod(group.grid.shape), math.prod(group.images.shape[1:-1]))
    most = CPU_VOXELS
    device = jax.devices()[0]
    if device.platform != "cpu":
        limit = (device.memory_stats() or {}).get("bytes_limit") or available_memory() or 0
        most = limit // (2 * DEVICE_BYTES)
    return int(np.clip(most // voxels, 1, len(group.names)))


@jax.jit
def _sampled(images, fields, matrices):
    points = apply_affine(matrices, identity_grid(fields.shape[1:-1])[None] + fields)
    return sample(images, points)
