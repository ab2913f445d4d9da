"""The application of saved transforms, step by step: read the transforms, move each input, write."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from air_jax import io
from air_jax.errors import UserError
from air_jax.file_transforms.chain import apply_chain, apply_inverse, invert_chain
from air_jax.file_transforms.options import Options, check_options, is_point_file
from air_jax.file_transforms.resampling import Grid, resample
from air_jax.io.image import is_picture_dtype
from air_jax.io.transform import FieldMap, Part, read_transform
from air_jax.io.volume import check_background, rounded_to


def apply_transforms(options: Options) -> None:
    """Applies transforms to each input and writes the results.

    Images are interpolated once, whatever the number of transforms. Points move with the image that they belong to,
    from the moving to the fixed image; with `inverse`, the other way.

    Args:
      options: transforms, inputs, output and settings.

    Raises:
      UserError: one line that names the file or the flag. Results of earlier inputs stay, but nothing is written where
        an input cannot be read.
    """
    check_options(options)
    reference = None if options.reference is None else io.read_image(options.reference)
    chain = _Chain(options.transforms, reference)
    if len(options.inputs) > 1:
        for path in options.inputs:  # so that a damaged one is found before the first result is written
            _read(options, path)
        options.output.mkdir(parents=True, exist_ok=True)
    for path, output in zip(options.inputs, options.outputs, strict=True):
        start = time.perf_counter()
        said = (
            _move_points(options, chain, path, output)
            if is_point_file(path)
            else _move_image(options, chain, reference, path, output)
        )
        print(f"{output}: {said}, {time.perf_counter() - start:.1f} s", flush=True)


@dataclass(frozen=True)
class _Chain:
    """Transforms that are read when they are needed, forward or inverse."""

    paths: tuple[Path, ...]
    grid: io.Volume | None

    @cached_property
    def forward(self) -> list[Part]:
        """From points of the fixed image to points of the moving image."""
        return [part for path in self.paths for part in self._read(path, inverse=False)]

    @cached_property
    def inverse(self) -> list[Part]:
        """From points of the moving image to points of the fixed image."""
        return [part for path in reversed(self.paths) for part in self._read(path, inverse=True)]

    def _read(self, path: Path, *, inverse: bool) -> list[Part]:
        parts, is_inverse = read_transform(path, grid=self.grid, inverse=inverse)
        for part in parts:
            if self.grid is not None and part.num_axes != self.grid.num_axes:
                raise UserError(f"{path}: has {part.num_axes} axes, --reference has {self.grid.num_axes}")
        try:
            return invert_chain(parts) if inverse and not is_inverse else parts
        except np.linalg.LinAlgError as error:
            raise UserError(f"{path}: has no inverse; it maps different points to one") from error


def _move_image(options: Options, chain: _Chain, reference: io.Volume | None, path: Path, output: Path) -> str:
    volume = _read_image(options, path)
    parts = chain.inverse if options.inverse else chain.forward
    _check_axes(options, parts, path, volume.num_axes)
    grid = _output_grid(parts, reference)
    is_picture = options.interpolation != "label" and is_picture_dtype(output, volume.array.dtype)
    if is_picture and options.interpolation == "linear":
        check_background(options.background, volume.array.dtype, path)
    array, inside = resample(volume, grid, parts, options.interpolation, options.background, output)
    if not inside:
        raise UserError(
            f"{path}: no voxel of the result lies in it; check the order of --transform, --inverse and --reference"
        )
    if options.interpolation == "label":
        io.write_segmentation(output, array, grid.affine)
    else:
        io.write_image(output, rounded_to(array, volume.array.dtype) if is_picture else array, grid.affine)
    return f"{' x '.join(map(str, grid.shape))}, {options.interpolation}, {100 * inside:.1f} % inside {path.name}"


def _read(options: Options, path: Path) -> io.Volume | np.ndarray:
    return io.read_landmarks(path) if is_point_file(path) else _read_image(options, path)


def _read_image(options: Options, path: Path) -> io.Volume:
    return io.read_segmentation(path) if options.interpolation == "label" else io.read_image(path)


def _move_points(options: Options, chain: _Chain, path: Path, output: Path) -> str:
    points = io.read_landmarks(path)
    _check_axes(options, chain.forward, path, points.shape[1])
    if options.inverse:
        moved = apply_chain(chain.forward, points)
    else:
        moved = apply_inverse(chain.forward, chain.inverse, points)
    io.write_landmarks(output, moved)
    return f"{len(points)} points"


def _check_axes(options: Options, parts: Sequence[Part], path: Path, num_axes: int) -> None:
    for part in parts:
        if part.num_axes != num_axes:
            named = ", ".join(map(str, options.transforms))
            raise UserError(f"{path}: has {num_axes} axes, a transform of {named} has {part.num_axes}")


def _output_grid(parts: Sequence[Part], reference: io.Volume | None) -> Grid:
    if reference is not None:
        return Grid(reference.shape, reference.affine)
    if isinstance(parts[0], FieldMap):
        return Grid(parts[0].displacement.shape[:-1], parts[0].affine)
    raise UserError("--reference must be given: the first transform to be applied has no grid of its own")
