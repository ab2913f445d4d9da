"""Options of the registration of many pairs, and the pairs that they name."""

import dataclasses
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from air_jax.errors import UserError
from air_jax.file_batches.table import Line, lines_of_folder, lines_of_table
from air_jax.file_registration.options import Options, Settings, check_options
from air_jax.runtime.files import real_path

# Flags that name a file of the reference. With a table they are columns.
OF_REFERENCE = ("fixed_mask", "rigid_region", "keep_volume")


@dataclass(frozen=True)
class BatchOptions(Settings):
    """Options of the registration of many pairs: the flags of `air_jax.batch`. None stands for the default.

    The settings are the same for all pairs. The files of `guiding` are regions of the reference.

    Attributes:
      output_dir: folder of the results, one subfolder a pair.
      pairs: CSV file with one row a pair.
      images: folder of moving images; needs `reference`.
      reference: the fixed image of all of them.
      fixed_mask: mask of the reference.
    """

    output_dir: Path
    _: KW_ONLY
    pairs: Path | None = None
    images: Path | None = None
    reference: Path | None = None
    fixed_mask: Path | None = None


def list_pairs(options: BatchOptions) -> dict[str, Options]:
    """Lists the pairs, and checks what can be checked without reading an image.

    Args:
      options: the flags.

    Returns:
      The options of each pair, by the name of its subfolder.

    Raises:
      UserError: one line that names the flag, or the file and its line: unknown columns; options that do not fit each
        other; two pairs with one output; or a file that is read and lies in the folder of a result.
    """
    lines = _lines(options)
    settings: dict[str, Any] = {field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)}
    if options.workdir is not None and options.pretrained is None:
        settings["workdir"] = options.workdir.absolute()
    own = dataclasses.replace(options.guiding, guide_weight=None, guide_tolerance=None, affine_from=None)
    # A mistake in a flag is that of no line.
    settings["guiding"] = own
    check_options(Options(Path("fixed"), Path("moving"), options.output_dir, **settings))
    have_landmarks = any("guide_landmarks" in line.guides for line in lines)
    found: dict[str, Options] = {}
    places: dict[str, str] = {}
    for line in lines:
        place, name = line.place, line.output
        if name.lower() in places:
            raise UserError(f"{place}: has the output {name!r}, and so has {places[name.lower()]}; name it otherwise")
        places[name.lower()] = place
        guiding = options.guiding
        if have_landmarks and "guide_landmarks" not in line.guides:  # the flags are of the pairs that have landmarks
            guiding = dataclasses.replace(guiding, guide_weight=None, guide_tolerance=None)
        settings["guiding"] = dataclasses.replace(guiding, **line.guides)
        found[name] = Options(**line.files, output_dir=(options.output_dir / name).absolute(), **settings)
        try:
            check_options(found[name])
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
    if not found:
        raise UserError(f"{options.pairs or options.images}: holds no pair")
    _check_places(options, found)
    return found


def _lines(options: BatchOptions) -> list[Line]:
    if (options.pairs is None) == (options.images is None):
        raise UserError("give either --pairs or --images with --reference")
    if (options.images is None) != (options.reference is None):
        raise UserError("--images and --reference belong together")
    guiding = options.guiding
    of_reference = dict(zip(OF_REFERENCE, (options.fixed_mask, guiding.rigid_region, guiding.keep_volume), strict=True))
    given = {name: path for name, path in of_reference.items() if path is not None}
    if options.images is not None and options.reference is not None:
        return list(lines_of_folder(options.images, {"fixed": options.reference} | given))
    assert options.pairs is not None
    if given:
        raise UserError(f"--{next(iter(given))} is of --reference; in --pairs it is a column")
    return list(lines_of_table(options.pairs))


def _check_places(options: BatchOptions, found: dict[str, Options]) -> None:
    results = {real_path(options.output_dir / name) for name in found}
    if options.images is not None and real_path(options.output_dir) == real_path(options.images):
        raise UserError(f"--output_dir={options.output_dir}: is the folder of the images; give another one")
    for pair in found.values():
        for path in pair.files_read:
            if results & {real_path(path), *real_path(path).parents}:
                raise UserError(f"--output_dir={options.output_dir}: {path} is read and lies in the folder of a result")
