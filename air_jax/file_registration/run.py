"""The registration of two files, step by step: read, align, deform, score, write, draw."""

import dataclasses
import importlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.file_registration.affine_parts import affine_report, described
from air_jax.file_registration.doubt import doubts
from air_jax.file_registration.folder import SCORES, begin, output_folder
from air_jax.file_registration.guided import (
    affine_similarity,
    align_by_landmarks,
    aligned,
    check_affine,
    constrained,
    described_guides,
    guides_report,
    hold_affine,
    with_channels,
)
from air_jax.file_registration.guiding import LANDMARKS
from air_jax.file_registration.improvement import geometry_of, improves
from air_jax.file_registration.inputs import Inputs, prepare, read_subjects
from air_jax.file_registration.options import NO_AFFINE, Options, check_options, choose_registration
from air_jax.file_registration.outputs import Maps, output_names, write_images, write_transforms
from air_jax.file_registration.reports import draw_reports
from air_jax.file_registration.scores import (
    Scores,
    check_overlap,
    compile_displacement_scores,
    pair_scores,
    table,
)
from air_jax.file_registration.start import Start, read_start
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
from air_jax.runtime.files import replace_text
from air_jax.transforms.spaces import compile_inverse, whole_displacement, whole_inverse

TOLERANCE = 1e-4  # relative decrease of the loss in 10 steps below which the deformation has converged
# Rotations of a picture, in degrees, that the affine registration starts from: slides are laid down by hand.
ANGLES = (0.0, -20.0, 20.0, -45.0, 45.0, -67.5, 67.5, -90.0, 90.0, -112.5, 112.5, -135.0, 135.0, -157.5, 157.5, 180.0)


class _Clock:
    """Measures and prints the seconds of each step."""

    def __init__(self):
        self._start = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def done(self, name: str) -> None:
        """Ends the step `name`, which began at the end of the step before."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self.seconds["all"] = round(now - self._start, 3)
        print(f"{now - self._start:7.1f} s  {name} ({now - self._last:.1f} s)", flush=True)
        self._last = now


def register_files(options: Options, *, compile_ahead: bool = False) -> Scores:
    """Registers two files and writes the results into `options.output_dir`.

    Args:
      options: input files, output folder and settings.
      compile_ahead: whether other threads compile the programs of the later steps during the affine registration. It
        needs JAX's persistent cache, see `air_jax.runtime.startup.use_compilation_cache`.

    Returns:
      The content of `scores.json`: `before`, `after`, `affine`, `guides`, `options`, `version`, `doubtful`, `doubts`,
      `seconds` and `files`.

    Raises:
      UserError: one line that names the file or the flag.
    """
    clock = _Clock()
    check_options(options)
    fixed, moving = read_subjects(options)
    registration, affine = choose_registration(options, fixed.volume.num_axes)
    inputs = prepare(registration, fixed, moving, options)
    registration = with_channels(registration, inputs)
    start = read_start(options, inputs)
    if start.deformation is not None and options.affine is None:
        affine = NO_AFFINE
    check_affine(options, affine)
    if affine == NO_AFFINE:
        check_overlap(inputs, start.matrix)
    clock.done("read")
    names = output_names(inputs)
    with output_folder(options.output_dir, names, options.files_read):
        from_landmarks = options.guiding.affine_from == LANDMARKS
        maps = _register(registration, affine, from_landmarks, inputs, start, clock, compile_ahead=compile_ahead)
        begin(options.output_dir)
        write_transforms(inputs, maps, options.output_dir)
        scores = _before_and_after(options, inputs, maps)
        scores |= doubts(affine, tuple(np.deg2rad(ANGLES)), inputs, maps.matrix, scores["after"])
        clock.done("inverse and scores")
        unit = "pixels" if inputs.are_pictures else "mm"
        if affine != NO_AFFINE:
            print(" " * 9, described(scores["affine"], unit), flush=True)
        for line in described_guides(scores["guides"], unit):
            print(" " * 9, line, flush=True)
        write_images(inputs, maps, options.output_dir)
        draw_reports(inputs, maps.whole, scores, clock.seconds, options.output_dir)
        clock.done("files and report")
        scores |= {"seconds": clock.seconds, "files": names}
        replace_text(options.output_dir / SCORES, json.dumps(scores, indent=2) + "\n")
    return scores


def _register(
    registration: Registration,
    affine: str,
    from_landmarks: bool,
    inputs: Inputs,
    start: Start,
    clock: _Clock,
    *,
    compile_ahead: bool,
) -> Maps:
    """Aligns, deforms and inverts."""
    with ThreadPoolExecutor(2) as threads:
        ahead = []
        if compile_ahead:
            ahead.append(threads.submit(_compile_deformation, registration, inputs))
            ahead.append(threads.submit(_compile_scores_and_import_report, inputs))
        if from_landmarks:
            matrix = align_by_landmarks(inputs, start, affine)
            check_overlap(inputs, matrix)
        else:
            matrix = _align(affine, inputs, start)
        for task in ahead[:1]:
            task.result()
        clock.done("affine")
        displacement = _deform(registration, inputs, matrix, start, clock)
        for task in ahead[1:]:
            task.result()

    whole = whole_displacement(displacement, matrix, inputs.voxel_to_voxel)
    inverse = whole_inverse(displacement, matrix, inputs.voxel_to_voxel, inputs.moving.volume.shape)
    return Maps(displacement, matrix, whole, inverse)


# ---- Registration ----------------------------------------------------------------------------------------------------


def _align(affine: str, inputs: Inputs, start: Start) -> np.ndarray:
    """Returns the affine `[N, N + 1]` float64 from fixed to moving voxels: registered, or that of the start."""
    if affine == NO_AFFINE:
        return start.matrix
    images = inputs.fixed_image, inputs.moving_image
    guidance, similarity = inputs.guides.guidance, affine_similarity(inputs)
    matrix = register_affine(
        similarity,
        *images,
        kind=affine,
        geometry=geometry_of(inputs, start.matrix),
        angles=tuple(np.deg2rad(ANGLES)),
        weights=inputs.fixed_weights,
        moving_weights=inputs.moving_weights,
        constraints=inputs.guides.constraints,
        guidance=guidance,
    )
    matrix = hold_affine(inputs, start, np.asarray(matrix[0], np.float64))
    check_overlap(inputs, matrix)
    zero = jnp.zeros((*inputs.fixed.volume.shape, inputs.fixed.volume.num_axes))
    steps = (zero, start.matrix), (zero, matrix)
    guide = None if guidance is None else lambda _, geometry: affine_guide_loss(guidance, geometry)
    if improves("affine", make_objective(similarity), images, inputs, *steps, guide=guide):
        return matrix
    return start.matrix


def _deform(registration: Registration, inputs: Inputs, matrix: np.ndarray, start: Start, clock: _Clock) -> jax.Array:
    """Returns the deformation `[*S, N]` of the fixed grid, which `matrix` follows: predicted, then refined."""
    try:
        displacement, _ = registration.predict(inputs.fixed_image, aligned(inputs, matrix))
        if start.deformation is not None:
            displacement = jnp.asarray(start.deformation)[None]
    except ValueError as error:
        raise UserError(f"the model does not take {inputs.fixed.path} ({error})") from error
    guides, geometry = inputs.guides, geometry_of(inputs, matrix)
    displacement = constrained(inputs, displacement, geometry, predicted=start.deformation is None)
    clock.done("initial displacement")
    predicted, arguments = displacement, _compared(registration, inputs)
    for field, num_steps in _levels(registration):
        displacement = refine(
            *arguments,
            displacement,
            num_steps=num_steps,
            field=field,
            geometry=geometry,
            tolerance=TOLERANCE,
            weights=inputs.fixed_weights,
            moving_weights=inputs.moving_weights,
            constraints=guides.constraints,
            guidance=guides.guidance,
        ).displacement.block_until_ready()
        clock.done(_description(field))
    objective, fixed, moving = arguments
    steps = (predicted[0], matrix), (displacement[0], matrix)
    guide = None if guides.guidance is None else partial(guide_loss, guides.guidance)
    if not registration.refine_steps or improves(
        "deformation", objective, (fixed, moving), inputs, *steps, guide=guide
    ):
        return displacement[0]
    return predicted[0]


def _compile_deformation(registration: Registration, inputs: Inputs) -> None:
    """Compiles the refinement of each level, which only the shapes of its arguments determine."""
    arguments = _compared(registration, inputs)
    for field, num_steps in _levels(registration):
        compile_refine(
            *arguments,
            num_steps=num_steps,
            field=field,
            geometry=geometry_of(inputs, inputs.voxel_to_voxel),
            tolerance=TOLERANCE,
            weights=inputs.fixed_weights,
            moving_weights=inputs.moving_weights,
            constraints=inputs.guides.constraints,
            guidance=inputs.guides.guidance,
        )


def _compile_scores_and_import_report(inputs: Inputs) -> None:
    compile_inverse(inputs.fixed.volume.shape, inputs.moving.volume.shape)
    compile_displacement_scores(inputs.fixed.volume.shape)
    importlib.import_module("air_jax.visualize")  # imports matplotlib, which takes half a second


def _compared(registration: Registration, inputs: Inputs) -> tuple[Objective, jax.Array, jax.Array]:
    """Returns the objective of refinement and the two images that it compares."""
    fixed, moving = (registration.compared(image) for image in (inputs.fixed_image, inputs.moving_image))
    return registration.comparing(registration.objective), fixed, moving


def _levels(registration: Registration) -> Iterator[tuple[Field, int]]:
    """Yields the field of each level and its steps; levels run one by one, so that each one reports its end."""
    levels = registration.field.levels
    for level, num_steps in zip(levels, shares(registration.refine_steps, len(levels)), strict=True):
        if num_steps:
            yield dataclasses.replace(registration.field, levels=(level,)), num_steps


def _description(field: Field) -> str:
    factor, spacing = field.levels[0] if isinstance(field.levels[0], tuple) else (field.levels[0], 1)
    return f"deformation, voxels x {factor}" + (f", control points x {spacing}" if spacing > 1 else "")


# ---- Scores ----------------------------------------------------------------------------------------------------------


def _before_and_after(options: Options, inputs: Inputs, maps: Maps) -> Scores:
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    given |= given.pop("guiding").given()
    before = pair_scores(inputs, jnp.zeros_like(maps.whole), jnp.zeros_like(maps.inverse))
    after = pair_scores(inputs, maps.whole, maps.inverse)
    print(table(before, after), flush=True)
    return {
        "before": before,
        "after": after,
        "affine": affine_report(inputs, maps.matrix),
        "guides": guides_report(inputs, maps.whole),
        "options": {name: None if value is None else str(value) for name, value in given.items()},
        "version": f"air_jax {__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }
