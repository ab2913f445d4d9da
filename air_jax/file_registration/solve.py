"""The registration of pairs that have been read, one or several at once: align, deform, invert."""

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.errors import UserError
from air_jax.file_registration.grids import cut, extend
from air_jax.file_registration.guided import affine_similarity, align_by_landmarks, aligned, constrained, hold_affine
from air_jax.file_registration.guides import stack_guides
from air_jax.file_registration.guiding import LANDMARKS
from air_jax.file_registration.improvement import geometry_of, improves
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.options import NO_AFFINE
from air_jax.file_registration.outputs import Maps
from air_jax.file_registration.pair import Pair
from air_jax.file_registration.scores import check_overlap, compile_displacement_scores
from air_jax.losses import Objective, make_objective
from air_jax.optimize import (
    Field,
    affine_guide_loss,
    compile_refine,
    guide_loss,
    refine,
    register_affine,
    shares,
)
from air_jax.registration import Registration
from air_jax.transforms.spaces import compile_inverse, whole_displacement, whole_inverse

TOLERANCE = 1e-4  # relative decrease of the loss in 10 steps below which the deformation has converged

Told = Callable[[str], None]  # is told the name of each step that ends


def solve(pairs: Sequence[Pair], told: Told, *, compile_ahead: bool) -> list[Maps | UserError]:
    """Registers pairs in one batch. The result of a pair does not depend on the others, except for rounding.

    Args:
      pairs: at least one. Several have the same grids, voxel sizes, options, kind of affine and kind of
        guides.
      told: called with the name of each step when it ends.
      compile_ahead: whether other threads compile the programs of the later steps during the affine registration.

    Returns:
      For each pair its maps, or why it has none.
    """
    with ThreadPoolExecutor(2) as threads:
        ahead = []
        if compile_ahead:
            ahead.append(threads.submit(compile_deformation, pairs))
            ahead.append(threads.submit(compile_scores_and_import_report, pairs[0].inputs))
        found = _align(pairs)
        for task in ahead[:1]:
            task.result()
        told("affine")
        starts = [pair.start.matrix for pair in pairs]
        matrices = [start if isinstance(each, UserError) else each for start, each in zip(starts, found, strict=True)]
        deformations = _deform(pairs, matrices, told)
        for task in ahead[1:]:
            task.result()
    return [
        matrix if isinstance(matrix, UserError) else _maps(pair.inputs, deformation, matrix)
        for pair, deformation, matrix in zip(pairs, deformations, found, strict=True)
    ]


def _maps(inputs: Inputs, deformation: jax.Array, matrix: np.ndarray) -> Maps:
    # Outside of the fixed image its border continues, also where the grid has padding.
    displacement = jnp.asarray(extend(cut(deformation, inputs.fixed.volume.shape), inputs.shape))
    whole = whole_displacement(displacement, matrix, inputs.voxel_to_voxel)
    inverse = whole_inverse(displacement, matrix, inputs.voxel_to_voxel, inputs.moving_shape)
    return Maps(displacement, matrix, whole, inverse)


# ---- Affine ----------------------------------------------------------------------------------------------------------


def _align(pairs: Sequence[Pair]) -> list[np.ndarray | UserError]:
    """Returns affines `[N, N + 1]` float64 from fixed to moving voxels: registered, or those of the starts."""
    first, starts = pairs[0], [pair.start.matrix for pair in pairs]
    if first.affine == NO_AFFINE:
        return list(starts)
    if first.options.guiding.affine_from == LANDMARKS:
        return [_align_by_landmarks(pair) for pair in pairs]
    fixed, moving, extra = _stack(pairs)
    matrices = register_affine(
        affine_similarity(first.inputs),
        fixed,
        moving,
        kind=first.affine,
        geometry=geometry_of(first.inputs, *starts),
        turned=first.options.initial is None,  # a start that the user gives is not turned
        **extra,
    )
    checked = []
    for pair, matrix in zip(pairs, matrices, strict=True):
        with pair.speaking():
            checked.append(_checked_affine(pair, matrix))
    return checked


def _align_by_landmarks(pair: Pair) -> np.ndarray | UserError:
    try:
        matrix = align_by_landmarks(pair.inputs, pair.start, pair.affine)
        check_overlap(pair.inputs, matrix)
    except UserError as error:
        return error
    return matrix


def _checked_affine(pair: Pair, matrix: jax.Array) -> np.ndarray | UserError:
    """Returns the affine, or its start where that is better."""
    inputs, start = pair.inputs, pair.start
    found = hold_affine(inputs, start, np.asarray(matrix, np.float64))
    try:
        check_overlap(inputs, found)
    except UserError as error:
        return error
    zero = jnp.zeros((*inputs.shape, len(inputs.shape)))
    images, steps = (inputs.fixed_image, inputs.moving_image), ((zero, start.matrix), (zero, found))
    guidance, objective = inputs.guides.guidance, make_objective(affine_similarity(inputs))
    guide = None if guidance is None else lambda _, geometry: affine_guide_loss(guidance, geometry)
    return found if improves("affine", objective, images, inputs, *steps, guide=guide) else start.matrix


# ---- Deformation -----------------------------------------------------------------------------------------------------


def _deform(pairs: Sequence[Pair], matrices: Sequence[np.ndarray], told: Told) -> list[jax.Array]:
    """Returns deformations `[*S, N]` of the fixed grid, which the matrices follow: predicted, then refined."""
    first = pairs[0]
    registration = first.registration
    predicted = [_predict(pair, matrix) for pair, matrix in zip(pairs, matrices, strict=True)]
    told("initial displacement")
    displacement = jnp.stack(predicted)
    objective, compared, extra = _compared(pairs)
    fixed, moving = (jnp.concatenate(images) for images in zip(*compared, strict=True))
    for field, num_steps in _levels(registration):
        displacement = refine(
            objective,
            fixed,
            moving,
            displacement,
            num_steps=num_steps,
            field=field,
            geometry=geometry_of(first.inputs, *matrices),
            tolerance=TOLERANCE,
            **extra,
        ).displacement.block_until_ready()
        told(_description(field))
    if not registration.refine_steps:
        return predicted
    kept = []
    for pair, images, matrix, before, after in zip(pairs, compared, matrices, predicted, displacement, strict=True):
        steps, guidance = ((before, matrix), (after, matrix)), pair.inputs.guides.guidance
        guide = None if guidance is None else partial(guide_loss, guidance)
        with pair.speaking():
            better = improves("deformation", objective, images, pair.inputs, *steps, guide=guide)
        kept.append(after if better else before)
    return kept


def _predict(pair: Pair, matrix: np.ndarray) -> jax.Array:
    """Returns the displacement `[*S, N]` before refinement: the start's, the model's, or zero."""
    inputs, start = pair.inputs, pair.start
    if start.deformation is not None:
        displacement = jnp.asarray(extend(start.deformation, inputs.shape))[None]
    elif pair.options.workdir is None:
        displacement = jnp.zeros((1, *inputs.shape, len(inputs.shape)))
    else:
        try:
            displacement, _ = pair.registration.predict(inputs.fixed_image, aligned(inputs, matrix))
        except ValueError as error:
            raise UserError(f"the model does not take {inputs.fixed.path} ({error})") from error
    geometry = geometry_of(inputs, matrix)
    return constrained(inputs, displacement, geometry, predicted=start.deformation is None)[0]


def compile_deformation(pairs: Sequence[Pair]) -> None:
    """Compiles the refinement of each level, which only the shapes of its arguments determine."""
    first = pairs[0]
    objective, compared, extra = _compared(pairs)
    fixed, moving = (jnp.concatenate(images) for images in zip(*compared, strict=True))
    for field, num_steps in _levels(first.registration):
        compile_refine(
            objective,
            fixed,
            moving,
            num_steps=num_steps,
            field=field,
            geometry=geometry_of(first.inputs, *(pair.inputs.voxel_to_voxel for pair in pairs)),
            tolerance=TOLERANCE,
            **extra,
        )


def compile_scores_and_import_report(inputs: Inputs) -> None:
    """Compiles the inversion and the scores of a displacement, and imports matplotlib, which takes half a second."""
    compile_inverse(inputs.shape, inputs.moving_shape)
    compile_displacement_scores(inputs.shape)
    importlib.import_module("air_jax.visualize")


def _compared(
    pairs: Sequence[Pair],
) -> tuple[Objective, list[tuple[jax.Array, jax.Array]], dict[str, Any]]:
    """Returns the objective of refinement, the two images of each pair that it compares, all weights and guides."""
    registration = pairs[0].registration
    images = [
        (registration.compared(pair.inputs.fixed_image), registration.compared(pair.inputs.moving_image))
        for pair in pairs
    ]
    return registration.comparing(registration.objective), images, _stack(pairs)[2]


def _levels(registration: Registration) -> Iterator[tuple[Field, int]]:
    """Yields the field of each level and its steps; levels run one by one, so that each one reports its end."""
    levels = registration.field.levels
    for level, num_steps in zip(levels, shares(registration.refine_steps, len(levels)), strict=True):
        if num_steps:
            yield dataclasses.replace(registration.field, levels=(level,)), num_steps


def _description(field: Field) -> str:
    factor, spacing = field.levels[0] if isinstance(field.levels[0], tuple) else (field.levels[0], 1)
    return f"deformation, voxels x {factor}" + (f", control points x {spacing}" if spacing > 1 else "")


def _stack(pairs: Sequence[Pair]) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
    """Returns the fixed and the moving images `[B, ...]` of all pairs, and their weights and guides."""
    names = ("fixed_image", "moving_image", "fixed_weights", "moving_weights")
    fixed, moving, weights, moving_weights = (
        jnp.concatenate([getattr(pair.inputs, name) for pair in pairs]) for name in names
    )
    constraints, guidance = stack_guides([pair.inputs.guides for pair in pairs])
    extra = {"weights": weights, "moving_weights": moving_weights, "constraints": constraints, "guidance": guidance}
    return fixed, moving, extra
