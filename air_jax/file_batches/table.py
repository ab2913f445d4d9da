"""The list of pairs: a table with a line a pair, or a folder of images with one reference."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from air_jax.errors import UserError
from air_jax.io.access import reading
from air_jax.io.image import SUFFIXES, is_image_file
from air_jax.runtime.files import real_path

OUTPUT = "output"
# Columns are flags of `register`. These occur once for each contrast.
IMAGES = ("fixed", "moving")
FILES = ("labels", "fixed_labels", "landmarks", "fixed_landmarks", "fixed_mask", "moving_mask", "initial")
GUIDES = ("rigid_region", "keep_volume", "guide_landmarks", "fixed_guide_landmarks")
NUMBERS, WORDS = ("guide_weight", "guide_tolerance"), ("contrast_weights",)
LONGEST_NAME = 255  # bytes, of a folder
COLUMNS = (*IMAGES, *FILES, *GUIDES, *NUMBERS, *WORDS, OUTPUT)


class Line(NamedTuple):
    """One pair of the list.

    Attributes:
      place: begins messages.
      output: name of the pair's folder.
      files: by column; of each side the first contrast.
      guides: values of `air_jax.file_registration.guiding.Guiding` by name.
    """

    place: str
    output: str
    files: Mapping[str, Path]
    guides: Mapping[str, Any]


def lines_of_table(path: Path) -> Iterator[Line]:
    """Reads a table of pairs. Cells are separated by commas, semicolons or tabs; paths start at the table's folder.

    Args:
      path: the file.

    Raises:
      UserError: one line that names the file and the line: it cannot be read, or its columns or cells are wrong.
    """
    with reading(path, "a table of pairs in UTF-8 (.csv)"):
        text = path.read_text(encoding="utf-8-sig")
        first = text.split("\n", 1)[0]
        # Strict, so that a quote that is not closed does not swallow the lines behind it.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
        lines = [(f"{path}: line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    columns = lines[0][1] if lines else []
    _check_columns(path, columns)
    for place, cells in lines[1:]:
        if not any(cells):
            continue
        if len(cells) != len(columns):
            raise UserError(f"{place}: has {len(cells)} cells, the first line has {len(columns)}")
        yield _line(path, place, [each for each in zip(columns, cells, strict=True) if each[1]])


def lines_of_folder(images: Path, common: Mapping[str, Path]) -> Iterator[Line]:
    """Lists the images of a folder.

    Args:
      images: the folder.
      common: the files of all pairs by column, "fixed" among them; they are not listed.

    Raises:
      UserError: one line that names the flag.
    """
    if not images.is_dir():
        raise UserError(f"--images={images}: is no folder")
    if not common["fixed"].exists():
        raise UserError(f"--reference={common['fixed']}: not found")
    left_out = {real_path(path) for path in common.values()}
    guides = {column: path.absolute() for column, path in common.items() if column in GUIDES}
    files = {column: path.absolute() for column, path in common.items() if column not in GUIDES}
    for path in sorted(images.iterdir()):
        if is_image_file(path) and real_path(path) not in left_out:
            yield Line(str(path), _checked_name(str(path), _stem(path)), files | {"moving": path.absolute()}, guides)


def _check_columns(path: Path, columns: list[str]) -> None:
    if unknown := [column for column in columns if column not in COLUMNS]:
        raise UserError(f"{path}: unknown column {unknown[0]!r}; there are {', '.join(COLUMNS)}")
    counts = Counter(columns)
    if doubled := [column for column in columns if counts[column] > 1 and column not in IMAGES]:
        raise UserError(f"{path}: the column {doubled[0]!r} occurs twice")
    if missing := [column for column in IMAGES if column not in columns]:
        raise UserError(f"{path}: lacks the column {missing[0]!r}; its first line names the columns")


def _line(table: Path, place: str, cells: list[tuple[str, str]]) -> Line:
    """A line whose cells are not empty."""
    words = {column: cell for column, cell in cells if column in (*NUMBERS, *WORDS, OUTPUT)}
    # Whole paths, so that a pair is known as finished from every folder that the command starts in.
    paths: dict[str, list[Path]] = {}
    for column, cell in cells:
        if column in words:
            continue
        try:
            paths.setdefault(column, []).append((table.parent / Path(cell).expanduser()).absolute())
        except RuntimeError as error:
            raise UserError(f"{place}: names a home folder that there is not; give the whole path") from error
    for column in IMAGES:
        if column not in paths:
            raise UserError(f"{place}: names no {column} image")
    files = {column: found[0] for column, found in paths.items()}
    output = words.pop(OUTPUT, "") or f"{_stem(files['moving'])}_to_{_stem(files['fixed'])}"
    guides: dict[str, Any] = {column: files.pop(column) for column in GUIDES if column in files}
    guides |= {f"{column}_contrasts": tuple(paths[column][1:]) for column in IMAGES}
    guides |= {column: _number(place, column, cell) if column in NUMBERS else cell for column, cell in words.items()}
    return Line(place, _checked_name(place, output), files, guides)


def _number(place: str, column: str, cell: str) -> float:
    try:
        if "_" not in cell:  # Python reads 1_0 as 10
            return float(cell)
    except ValueError:
        pass
    raise UserError(f"{place}: {column}={cell}: must be a number")


def _stem(path: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return path.name.removesuffix(path.name[len(path.name) - len(suffix) :]) or path.name


def _checked_name(place: str, name: str) -> str:
    if name != Path(name).name or name.startswith((".", "summary")) or min(name) < " ":
        raise UserError(f"{place}: its output {name!r} must be the name of a folder, and not begin with . or summary")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(f"{place}: its output {name[:40]}... has {len(name)} letters; give a shorter one as {OUTPUT}")
    return name
