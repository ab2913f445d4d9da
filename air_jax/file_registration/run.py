"""The story of registering two files: read, align, deform, score, write, draw."""

import dataclasses
import importlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import io
from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.file_registration.options import NO_AFFINE, Options, check_options
from air_jax.file_registration.scores import Scores, carry, compile_displacement_scores, is_picture, pair_scores
from air_jax.io.image import PICTURES, suffix_of
from air_jax.io.subject import Side, check_pair, read_side
from air_jax.losses import SIMILARITIES, Objective, make_objective
from air_jax.optimize import FIELDS, Field, Geometry, compile_refine, refine, register_affine, shares
from air_jax.registration import STEPS_FROM_ZERO, Registration, load
from air_jax.runtime.files import replace_text
from air_jax.transforms.spaces import (
    compile_inverse,
    jacobian_map,
    sample_moving,
    voxel_matrix,
    whole_displacement,
    whole_inverse,
)

# Measured best on histology of different stains, and among the best elsewhere, whatever the deformation's.
AFFINE_SIMILARITY = "mi"
TOLERANCE = 1e-4  # of convergence, see `air_jax.optimize.refine`
# Turns of a picture that are tried first, in degrees: slides are laid down by hand.
ANGLES = (0.0, -20.0, 20.0, -45.0, 45.0)


def register_files(options: Options, *, compile_ahead: bool = False) -> Scores:
    """Registers two files, writes what came of it to `options.output_dir` and returns what `scores.json` holds.

    Args:
      options: what is asked for.
      compile_ahead: whether what comes later is compiled in other threads, while the affine map is sought. It needs
        JAX's persistent cache, see `air_jax.runtime.startup.use_compilation_cache`.

    Raises:
      UserError: one line that names the file or flag.
    """
    start = time.perf_counter()
    check_options(options)
    registration = None if options.workdir is None else load(options.workdir)
    fixed, moving = _read(options, registration)
    voxel_to_voxel = voxel_matrix(fixed.volume.affine, moving.volume.affine)
    _make_folder(options.output_dir)

    clock = _Clock(start)
    clock.done("read")
    with ThreadPoolExecutor(2) as threads:
        ahead = []
        if compile_ahead:
            ahead.append(threads.submit(_compile_deformation, options, registration, fixed, moving))
            ahead.append(threads.submit(_prepare_scores_and_report, fixed, moving))
        matrix = _align(options, registration, fixed, moving, voxel_to_voxel)
        if ahead:
            ahead[0].result()
        clock.done("affine")
        displacement = _deform(options, registration, fixed, moving, matrix, clock)
        if ahead:
            ahead[1].result()
    whole = whole_displacement(displacement, matrix, voxel_to_voxel)
    inverse = whole_inverse(displacement, matrix, voxel_to_voxel, moving.volume.shape)
    scores = _scores(options, fixed, moving, whole, inverse, voxel_to_voxel)
    clock.done("inverse and scores")
    _write(options, fixed, moving, whole, inverse, voxel_to_voxel)
    _draw(options, fixed, moving, whole, voxel_to_voxel, scores)
    clock.done("files and report")
    scores["seconds"] = clock.seconds
    replace_text(options.output_dir / "scores.json", json.dumps(scores, indent=2) + "\n")
    return scores


class _Clock:
    """Tells what took how long, as it happens."""

    def __init__(self, start: float):
        self._start = self._last = start
        self.seconds: dict[str, float] = {}

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self.seconds["all"] = round(now - self._start, 3)
        print(f"{now - self._start:7.1f} s  {name} ({now - self._last:.1f} s)", flush=True)
        self._last = now


# ---- What is asked for -----------------------------------------------------------------------------------------------


def _read(options: Options, registration: Registration | None) -> tuple[Side, Side]:
    window = registration.normalization if registration else options.normalization or "percentile"
    fixed = read_side(options.fixed, options.fixed_labels, options.fixed_landmarks, window)
    moving = read_side(options.moving, options.labels, options.landmarks, window)
    check_pair(fixed, moving, options.fixed, options.moving)
    if registration is not None:
        num_axes, channels = len(registration.image_shape) - 1, registration.image_shape[-1]
        if fixed.volume.num_axes != num_axes or channels != 1:
            raise UserError(
                f"{options.workdir}: its model takes {num_axes} axes and {channels} channel(s); "
                f"{options.fixed} has {fixed.volume.num_axes} axes, registered as one grey channel"
            )
    return fixed, moving


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir={folder}: cannot be made ({error.strerror})") from error


# ---- Registration ----------------------------------------------------------------------------------------------------


def _align(
    options: Options, registration: Registration | None, fixed: Side, moving: Side, voxel_to_voxel: np.ndarray
) -> np.ndarray:
    """`[N, N + 1]`, from fixed to moving voxels: what the headers say, and the affine registration after it."""
    kind = options.affine or (NO_AFFINE if registration else "affine")
    if kind == NO_AFFINE:
        return voxel_to_voxel
    matrix = register_affine(
        SIMILARITIES[AFFINE_SIMILARITY],
        *_batches(fixed, moving),
        kind=kind,
        geometry=_geometry(fixed, moving, voxel_to_voxel),
        angles=np.deg2rad(ANGLES),
    )
    return np.asarray(matrix[0], np.float64)


def _deform(
    options: Options,
    registration: Registration | None,
    fixed: Side,
    moving: Side,
    matrix: np.ndarray,
    clock: _Clock,
) -> jax.Array:
    """The deformation `[*S, N]` of the fixed grid that `matrix` follows: the network's, or zero, and then optimised."""
    images = _batches(fixed, moving)
    displacement = _zero(fixed)
    if registration is not None:
        # Interpolation weights may sum to a little more than 1.
        resampled = jnp.clip(sample_moving(moving.grey, displacement[0], matrix), 0, 1)
        try:
            displacement = registration.register(
                images[0], resampled[None, ..., None], normalized=True, refine_steps=0
            ).displacement
        except ValueError as error:
            raise UserError(f"{options.workdir}: its model does not take {options.fixed} ({error})") from error
        clock.done("network")
    images = _to_refine(registration, fixed, moving)
    for settings in _levels(options, registration, fixed, moving):
        displacement = refine(
            _objective(options, registration),
            *images,
            displacement,
            geometry=_geometry(fixed, moving, matrix),
            **settings,
        ).displacement.block_until_ready()
        clock.done(f"deformation, level {settings['field'].levels[0]}")
    return displacement[0]


def _compile_deformation(options: Options, registration: Registration | None, fixed: Side, moving: Side) -> None:
    matrix = np.eye(fixed.volume.num_axes, fixed.volume.num_axes + 1)
    images = _to_refine(registration, fixed, moving)
    for settings in _levels(options, registration, fixed, moving):
        compile_refine(
            _objective(options, registration),
            *images,
            _zero(fixed),
            geometry=_geometry(fixed, moving, matrix),
            **settings,
        )


def _prepare_scores_and_report(fixed: Side, moving: Side) -> None:
    compile_inverse(fixed.volume.shape, moving.volume.shape)
    compile_displacement_scores(fixed.volume.shape)
    importlib.import_module("air_jax.visualize")  # and with it matplotlib, which takes half a second


def _levels(options: Options, registration: Registration | None, fixed: Side, moving: Side) -> Iterator[dict[str, Any]]:
    """What `refine` is told for each level, level by level so that progress can be told."""
    steps = options.refine_steps if options.refine_steps is not None else 0 if registration else STEPS_FROM_ZERO
    field = _field(options, registration)
    for level, share in zip(field.levels, shares(steps, len(field.levels)), strict=True):
        if share:
            yield {
                "num_steps": share,
                "field": dataclasses.replace(field, levels=(level,)),
                "tolerance": TOLERANCE,
            }


def _field(options: Options, registration: Registration | None) -> Field:
    return registration.field if registration else FIELDS[options.field or "dense"]()


def _geometry(fixed: Side, moving: Side, matrix: np.ndarray) -> Geometry:
    return Geometry(jnp.asarray(matrix, jnp.float32)[None], fixed.volume.spacing, moving.volume.spacing)


def _to_refine(registration: Registration | None, fixed: Side, moving: Side) -> tuple[jax.Array, jax.Array]:
    """The images that refinement compares."""
    images = _batches(fixed, moving)
    return tuple(map(registration.compared, images)) if registration else images


@cache  # the same function each time, so that it is compiled once
def _objective_of(similarity: str) -> Objective:
    return make_objective(similarity)


def _objective(options: Options, registration: Registration | None) -> Objective:
    if registration is None:
        return _objective_of(options.similarity or "lncc")
    return registration.comparing(_objective_of(options.similarity) if options.similarity else registration.objective)


def _zero(fixed: Side) -> jax.Array:
    return jnp.zeros((1, *fixed.volume.shape, fixed.volume.num_axes))


def _batches(fixed: Side, moving: Side) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(fixed.grey)[None, ..., None], jnp.asarray(moving.grey)[None, ..., None]


# ---- What is left behind ---------------------------------------------------------------------------------------------


def _scores(
    options: Options, fixed: Side, moving: Side, whole: jax.Array, inverse: jax.Array, voxel_to_voxel: np.ndarray
) -> dict[str, Any]:
    return {
        "before": pair_scores(fixed, moving, jnp.zeros_like(whole), jnp.zeros_like(inverse), voxel_to_voxel),
        "after": pair_scores(fixed, moving, whole, inverse, voxel_to_voxel),
        "options": {name: None if value is None else str(value) for name, value in options._asdict().items()},
        "version": f"air_jax {__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }


def _write(
    options: Options, fixed: Side, moving: Side, whole: jax.Array, inverse: jax.Array, voxel_to_voxel: np.ndarray
) -> None:
    folder, affine = options.output_dir, fixed.volume.affine
    warped = np.asarray(sample_moving(moving.volume.array.astype(np.float32), whole, voxel_to_voxel))
    ending = suffix_of(options.moving)
    # Pictures hold 8 or 16 bits; a TIFF of 32 bits has values that these cannot.
    if ending in PICTURES and is_picture(fixed.volume) and moving.volume.array.dtype in (np.uint8, np.uint16):
        warped = np.round(warped).astype(moving.volume.array.dtype)
    else:
        ending = ".npz" if warped.ndim > fixed.volume.num_axes else ".nii.gz"
    for stale in [*folder.glob("warped.*"), folder / "warped_labels.nii.gz", folder / "landmarks.csv"]:
        stale.unlink(missing_ok=True)  # of a registration before, which may have had other files
    io.write_image(folder / f"warped{ending}", warped, affine)
    io.write_field(folder / "displacement.nii.gz", np.asarray(whole), affine)
    io.write_field(folder / "inverse_displacement.nii.gz", np.asarray(inverse), moving.volume.affine)
    io.write_image(folder / "jacobian.nii.gz", np.asarray(jacobian_map(whole)), affine)
    if moving.labels is not None:
        labels = np.asarray(sample_moving(moving.labels, whole, voxel_to_voxel, order=0))
        io.write_image(folder / "warped_labels.nii.gz", labels, affine)
    if moving.landmarks is not None:
        carried = carry(moving.landmarks, moving.volume, inverse)
        io.write_landmarks(folder / "landmarks.csv", carried)


def _draw(
    options: Options, fixed: Side, moving: Side, whole: jax.Array, voxel_to_voxel: np.ndarray, scores: dict[str, Any]
) -> None:
    from air_jax.visualize import report_figure  # matplotlib, which nothing before needs

    before, after = (sample_moving(moving.grey, field, voxel_to_voxel) for field in (jnp.zeros_like(whole), whole))
    figure = report_figure(
        fixed.grey,
        before,
        after,
        whole,
        spacing=fixed.volume.spacing,
        title=f"{options.moving.name} registered to {options.fixed.name}",
        is_picture=is_picture(fixed.volume),
        scores=scores,
    )
    partial = options.output_dir / "report.partial.png"
    figure.savefig(partial, dpi=150)
    partial.replace(options.output_dir / "report.png")
