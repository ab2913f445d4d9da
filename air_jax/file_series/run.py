"""The correction of motion in a series, step by step: read, align, resample, write, draw."""

import dataclasses
import json
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from air_jax import io
from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.file_registration.field_of_view import read_mask
from air_jax.file_registration.folder import SCORES, begin, output_folder
from air_jax.file_series.options import MEAN, Options, check_options
from air_jax.file_series.parameters import (
    framewise_displacement,
    motion_parameters,
    physical_maps,
    sphere_radius,
    table,
)
from air_jax.io.access import writing
from air_jax.io.series import TIFF, Series, read_series, series_suffix, write_series
from air_jax.io.transform import write_affine
from air_jax.io.volume import rounded_to
from air_jax.optimize import Geometry, align_frames
from air_jax.runtime.files import replace_text
from air_jax.runtime.parallel import num_cores

CHUNK = 16  # frames that are aligned between two lines of progress


def correct_motion(options: Options) -> dict:
    """Aligns all frames of a series to a reference and writes the results into `options.output_dir`.

    Args:
      options: the series, the output folder and settings.

    Returns:
      The content of `scores.json`.

    Raises:
      UserError: one line that names the file or the flag.
    """
    start = time.perf_counter()
    check_options(options)
    series = read_series(options.input)
    if series.array.min() == series.array.max():
        raise UserError(f"{options.input}: is constant; there is nothing to align")
    reference = _first_reference(options, series)
    weights = None
    if options.mask is not None:
        frame = io.Volume(series.array[0], series.affine)
        weights = jnp.asarray(read_mask(options.mask, frame, options.input))
    names = _names(options, series)
    with output_folder(options.output_dir, names, options.files_read):
        matrices = _align("to a frame" if options.reference == MEAN else "frames", options, series, reference, weights)
        if options.reference == MEAN:
            mean = _resampled(series, matrices, order=1).mean(axis=0)
            matrices = _align("to the mean", options, series, mean, weights, start=matrices)
        begin(options.output_dir)
        scores = _write(options, series, matrices, weights)
        scores |= {"seconds": round(time.perf_counter() - start, 3), "files": names}
        replace_text(options.output_dir / SCORES, json.dumps(scores, indent=2) + "\n")
    return scores


def _first_reference(options: Options, series: Series) -> np.ndarray:
    """Returns the image `[*S]` that frames are aligned to first."""
    path = options.reference_file
    if path is None:
        return series.array[options.frame(len(series.array))].astype(np.float32)
    volume = io.read_image(path)
    frame = io.Volume(series.array[0], series.affine)
    if volume.array.shape != frame.shape or not np.allclose(volume.affine, series.affine, atol=1e-3):
        raise UserError(f"--reference={path}: is not on the grid of {options.input}; resample it with air-jax apply")
    image = volume.array.astype(np.float32)
    if image.min() == image.max():
        raise UserError(f"--reference={path}: is constant; there is nothing to align to")
    return image


def _names(options: Options, series: Series) -> list[str]:
    suffix = series_suffix(options.input)
    still = ".tif" if suffix in TIFF else ".nii.gz"
    names = [f"corrected{suffix}", f"mean{still}", "motion.tsv", "motion.png"]
    if options.affines:
        names += [f"affine_{index:04d}.mat" for index in range(len(series.array))]
    return names


def _align(
    what: str,
    options: Options,
    series: Series,
    reference: np.ndarray,
    weights: jax.Array | None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the maps `[T, N, N+1]` float64 from voxels of the reference to voxels of each frame."""
    num_frames, num_axes, is_first = len(series.array), series.num_axes, start is None
    if start is None:
        start = np.broadcast_to(np.eye(num_axes, num_axes + 1), (num_frames, num_axes, num_axes + 1))
    spacing = io.Volume(series.array[0], series.affine).spacing.tolist()
    begun, said = time.perf_counter(), 0.0

    def chunk(first: int) -> np.ndarray:
        # The last chunk is filled up, so that one program serves all.
        indices = np.minimum(np.arange(first, first + CHUNK), num_frames - 1)
        matrices = align_frames(
            jnp.asarray(reference),
            jnp.asarray(series.array[indices], jnp.float32),
            kind=options.kind,
            geometry=Geometry(jnp.asarray(start[indices], jnp.float32), voxel_size=spacing),
            weights=weights,
            from_coarse=is_first,
        )
        return np.asarray(matrices, np.float64)[: num_frames - first]

    found = [chunk(0)]  # compiles
    with ThreadPoolExecutor(num_cores()) as threads:
        for matrices in threads.map(chunk, range(CHUNK, num_frames, CHUNK)):
            found.append(matrices)
            done, elapsed = sum(map(len, found)), time.perf_counter() - begun
            if elapsed - said > 2 or done == num_frames:
                said = elapsed
                left = elapsed / done * (num_frames - done)
                print(f"{what}: {done} of {num_frames}, {done / elapsed:.1f} frames/s, {left:.0f} s left", flush=True)
    return np.concatenate(found)


def _resampled(series: Series, matrices: np.ndarray, *, order: int) -> np.ndarray:
    """Returns the frames `[T, *S]` float32 on the reference's grid; outside, a frame continues with its border."""
    frames = np.empty(series.array.shape, np.float32)

    def resample(index: int) -> None:
        frame, matrix = series.array[index].astype(np.float32), matrices[index]
        scipy.ndimage.affine_transform(
            frame, matrix[:, :-1], matrix[:, -1], output=frames[index], order=order, mode="nearest"
        )

    with ThreadPoolExecutor(num_cores()) as threads:
        list(threads.map(resample, range(len(frames))))
    return frames


def _write(options: Options, series: Series, matrices: np.ndarray, weights: jax.Array | None) -> dict:
    """Writes all results but `scores.json`; returns its content."""
    folder, suffix = options.output_dir, series_suffix(options.input)
    maps = physical_maps(matrices, series)
    parameters_of, parameters = motion_parameters(maps, series)
    moved = framewise_displacement(parameters, sphere_radius(series))
    replace_text(folder / "motion.tsv", table(parameters_of, parameters, moved))
    if options.affines:
        for index, matrix in enumerate(maps):
            write_affine(folder / f"affine_{index:04d}.mat", matrix)
    corrected = _resampled(series, matrices, order=3 if options.interpolation == "cubic" else 1)
    stored = corrected
    if suffix in TIFF and series.array.dtype.kind in "iu":
        stored = rounded_to(corrected, series.array.dtype)
    write_series(folder / f"corrected{suffix}", dataclasses.replace(series, array=stored))
    still = ".tif" if suffix in TIFF else ".nii.gz"
    io.write_image(folder / f"mean{still}", corrected.mean(axis=0), series.affine)
    before, after = (_roughness(array, weights) for array in (series.array, corrected))
    unit = "mm" if series.num_axes == 3 or suffix not in TIFF else "pixels"
    _draw(options, parameters_of, parameters, moved, unit, series.seconds)
    scores = {
        "frames": len(series.array),
        "unit": unit,
        "framewise_displacement_mean": float(moved.mean()),
        "framewise_displacement_max": float(moved.max()),
        "largest_translation": float(np.abs(parameters[:, : series.num_axes]).max()),
        "largest_rotation_degrees": float(np.abs(parameters[:, series.num_axes :]).max()),
        "before": {"temporal_deviation": before},
        "after": {"temporal_deviation": after},
    }
    print(
        f"framewise displacement: mean {scores['framewise_displacement_mean']:.3g}, largest "
        f"{scores['framewise_displacement_max']:.3g} {unit}; temporal deviation {before:.4g} before, {after:.4g} after",
        flush=True,
    )
    given = dataclasses.asdict(options)
    return scores | {
        "options": {name: None if value is None else str(value) for name, value in given.items()},
        "version": f"air_jax {__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }


def _roughness(frames: np.ndarray, weights: jax.Array | None) -> float:
    """Returns the mean over voxels of the standard deviation over time."""
    deviation = frames.astype(np.float32).std(axis=0)
    return float(np.average(deviation, weights=None if weights is None else np.asarray(weights)))


def _draw(options, names, parameters, moved, unit, seconds) -> None:
    from air_jax.visualize import motion_figure  # imports matplotlib, which takes half a second

    figure = motion_figure(names, parameters, moved, unit=unit, title=options.input.name, seconds=seconds)
    with writing(options.output_dir / "motion.png", ".png") as partial:
        figure.savefig(partial, dpi=150)
