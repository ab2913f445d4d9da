"""Options of the registration of many pairs, and the list of pairs that they name."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from air_jax.errors import UserError
from air_jax.file_registration.options import Options, check_options
from air_jax.io.image import SUFFIXES
from air_jax.runtime.files import read_bytes, real_path

OUTPUT = "output"
# Columns of a table of pairs: flags of `register` that name a file of one pair.
FILES = ("fixed", "moving", "labels", "fixed_labels", "landmarks", "fixed_landmarks", "fixed_mask", "moving_mask")
FILES += ("initial",)
LONGEST_NAME = 255  # bytes, of a folder


@dataclass(frozen=True)
class BatchOptions:
    """Options of the registration of many pairs: the flags of `air_jax.batch`. None stands for the default.

    Attributes:
      output_dir: folder of the results, one subfolder a pair.
      pairs: CSV file with one row a pair.
      images: folder of moving images; needs `reference`.
      reference: the fixed image of all of them.
      fixed_mask: mask of the reference.
      workdir, similarity, affine, field, refine_steps, normalization, stop_after, background: as in
        `air_jax.file_registration.options.Options`, the same for all pairs.
    """

    output_dir: Path
    _: KW_ONLY
    pairs: Path | None = None
    images: Path | None = None
    reference: Path | None = None
    fixed_mask: Path | None = None
    workdir: Path | None = None
    similarity: str | None = None
    affine: str | None = None
    field: str | None = None
    refine_steps: int | None = None
    normalization: str | None = None
    stop_after: str | None = None
    background: float | None = None


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
    if (options.pairs is None) == (options.images is None):
        raise UserError("give either --pairs or --images with --reference")
    if (options.images is None) != (options.reference is None):
        raise UserError("--images and --reference belong together")
    if options.pairs is not None and options.fixed_mask is not None:
        raise UserError("--fixed_mask is of --reference; in --pairs it is a column")
    rows = _rows_of_table(options.pairs) if options.pairs is not None else _rows_of_folder(options)
    shared = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    for name in ("output_dir", "pairs", "images", "reference", "fixed_mask"):
        del shared[name]
    if options.workdir is not None:
        shared["workdir"] = options.workdir.absolute()
    check_options(Options(Path("fixed"), Path("moving"), options.output_dir, **shared))  # no line of the table is wrong
    found: dict[str, Options] = {}
    places: dict[str, str] = {}
    for place, name, files in rows:
        if name.lower() in places:
            raise UserError(f"{place}: has the output {name!r}, and so has {places[name.lower()]}; name it otherwise")
        places[name.lower()] = place
        # Whole paths, so that a pair is known as finished from every folder that the command starts in.
        files = {column: path.absolute() for column, path in files.items()}
        found[name] = Options(**files, output_dir=(options.output_dir / name).absolute(), **shared)
        try:
            check_options(found[name])
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
    if not found:
        raise UserError(f"{options.pairs or options.images}: holds no pair")
    _check_places(options, found)
    return found


def _rows_of_table(path: Path) -> Iterator[tuple[str, str, dict[str, Path]]]:
    """The place of each row for messages, its output, and its files."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--pairs={path}: cannot be read ({getattr(error, 'strerror', 'not UTF-8')})") from error
    first = text.split("\n", 1)[0]
    # Strict, so that a quote that is not closed does not swallow the rows behind it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        lines = [(f"{path}: line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"--pairs={path}: cannot be read as a table ({error})") from error
    columns = lines[0][1] if lines else []
    known = (*FILES, OUTPUT)
    if unknown := [column for column in columns if column not in known]:
        raise UserError(f"{path}: unknown column {unknown[0]!r}; there are {', '.join(known)}")
    if doubled := [column for column in columns if columns.count(column) > 1]:
        raise UserError(f"{path}: the column {doubled[0]!r} occurs twice")
    if missing := [column for column in ("fixed", "moving") if column not in columns]:
        raise UserError(f"{path}: lacks the column {missing[0]!r}; its first line names the columns")
    for place, cells in lines[1:]:
        if not any(cells):
            continue
        if len(cells) != len(columns):
            raise UserError(f"{place}: has {len(cells)} cells, the first line has {len(columns)}")
        given = {column: cell for column, cell in zip(columns, cells, strict=True) if cell}
        for column in ("fixed", "moving"):
            if column not in given:
                raise UserError(f"{place}: names no {column} image")
        name = given.pop(OUTPUT, "")
        try:
            files = {column: path.parent / Path(cell).expanduser() for column, cell in given.items()}
        except RuntimeError as error:
            raise UserError(f"{place}: names a home folder that there is not; give the whole path") from error
        yield place, _checked_name(place, name or f"{_stem(files['moving'])}_to_{_stem(files['fixed'])}"), files


def _rows_of_folder(options: BatchOptions) -> Iterator[tuple[str, str, dict[str, Path]]]:
    assert options.images is not None
    assert options.reference is not None
    if not options.images.is_dir():
        raise UserError(f"--images={options.images}: is no folder")
    if not options.reference.exists():
        raise UserError(f"--reference={options.reference}: not found")
    left_out = {real_path(path) for path in (options.reference, options.fixed_mask) if path is not None}
    common = {"fixed": options.reference} | ({"fixed_mask": options.fixed_mask} if options.fixed_mask else {})
    for path in sorted(options.images.iterdir()):
        if path.is_file() and path.name.lower().endswith(SUFFIXES) and real_path(path) not in left_out:
            yield str(path), _checked_name(str(path), _stem(path)), common | {"moving": path}


def _stem(path: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :]) or path.name


def _checked_name(place: str, name: str) -> str:
    if name != Path(name).name or name.startswith((".", "summary")) or min(name) < " ":
        raise UserError(f"{place}: its output {name!r} must be the name of a folder, and not begin with . or summary")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(f"{place}: its output {name[:40]}... has {len(name)} letters; give a shorter one as {OUTPUT}")
    return name


def _check_places(options: BatchOptions, found: dict[str, Options]) -> None:
    results = {real_path(options.output_dir / name) for name in found}
    if options.images is not None and real_path(options.output_dir) == real_path(options.images):
        raise UserError(f"--output_dir={options.output_dir}: is the folder of the images; give another one")
    for pair in found.values():
        for path in pair.files_read:
            if results & {real_path(path), *real_path(path).parents}:
                raise UserError(f"--output_dir={options.output_dir}: {path} is read and lies in the folder of a result")
