"""Options of the application of saved transforms, and their checks."""

import os
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from air_jax.checks import check_number
from air_jax.errors import UserError, naming_flag
from air_jax.runtime.files import real_path

POINTS = (".csv", ".tsv", ".txt", ".fcsv", ".json")
INTERPOLATIONS = ("linear", "nearest", "label")


@dataclass(frozen=True)
class Options:
    """Options of the application of saved transforms: the flags of `air_jax.apply`.

    Attributes:
      transforms: files and folders. The first one is applied first to points of the fixed image, as ANTs lists them.
      inputs: images, segmentations or points of the moving image; with `inverse`, of the fixed image.
      output: file of the result; with several inputs the folder of the results, which keep the inputs' names.
      reference: image on whose grid images are written. Default: the grid of the first displacement field.
      interpolation: "linear"; "nearest"; or "label", the label with the largest share.
      inverse: whether the inverse transform is applied.
      background: value of images outside of the input.
    """

    transforms: tuple[Path, ...]
    inputs: tuple[Path, ...]
    output: Path
    _: KW_ONLY
    reference: Path | None = None
    interpolation: str = "linear"
    inverse: bool = False
    background: float = 0.0

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The file of each input's result."""
        return (self.output,) if len(self.inputs) == 1 else tuple(self.output / path.name for path in self.inputs)


def check_options(options: Options) -> None:
    """Checks all options that can be checked without reading a file.

    Raises:
      UserError: one line that names the flag.
    """
    if options.interpolation not in INTERPOLATIONS:
        raise UserError(f"--interpolation={options.interpolation}: must be one of {', '.join(INTERPOLATIONS)}")
    with naming_flag():
        check_number("background", options.background)
    if options.interpolation == "label" and options.background != round(options.background):
        raise UserError(f"--background={options.background}: must be a whole number with --interpolation=label")
    several = len(options.inputs) > 1
    if several and options.output.exists() and not options.output.is_dir():
        raise UserError(f"--output={options.output}: is a file; give a folder for the results of several inputs")
    if not several and options.output.is_dir():
        raise UserError(f"--output={options.output}: is a folder; give the name of a file for one input")
    outputs = options.outputs
    if len(set(outputs)) < len(outputs):
        raise UserError("--input: two inputs have the same name; their results would replace each other")
    read = [*options.inputs, *options.transforms, *([options.reference] if options.reference else [])]
    taken = {real_path(path) for path in read}
    for path in outputs:
        if real_path(path) in taken:
            raise UserError(f"--output={path}: is read by this command; give another name")
    for given, path in zip(options.inputs, outputs, strict=True):
        if is_point_file(given) != is_point_file(path):
            kind = "points" if is_point_file(given) else "an image"
            raise UserError(f"--output={path}: {given} has {kind}; give a name of the same kind")
    folder = options.output if several else options.output.parent
    if not several and not folder.is_dir():
        raise UserError(f"--output={options.output}: its folder does not exist; make it first")
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--output={options.output}: its folder cannot be written; choose another")


def is_point_file(path: Path) -> bool:
    """Whether a file's name is that of points, and not of an image."""
    return path.name.lower().endswith(POINTS)
