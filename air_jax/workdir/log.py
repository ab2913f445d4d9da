"""`metrics.jsonl`, the log of a run: steps and validations, one JSON object a line."""

import json
from pathlib import Path
from typing import Any

from air_jax.checks import is_integer
from air_jax.errors import UserError
from air_jax.runtime.files import replace_text

FILE_NAME = "metrics.jsonl"


def append(workdir: Path, line: dict[str, Any]) -> None:
    """Adds a line to the log of `workdir`."""
    with (workdir / FILE_NAME).open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def read(workdir: Path) -> list[dict[str, Any]]:
    """Returns the lines of the log, without a last one that a killed run cut short; none where there is no log.

    Raises:
      UserError: the log is no file, or a line is none of a run's; one line names it.
    """
    path = workdir / FILE_NAME
    if not path.exists():
        return []
    if not path.is_file():
        raise UserError(f"{path}: is no file; move it away, or choose another --workdir")
    texts = path.read_bytes().split(b"\n")
    numbered = [(number, text) for number, text in enumerate(texts, start=1) if text.strip()]
    if not numbered:
        return []
    *whole, last = numbered
    lines = [_line(path, number, text) for number, text in whole]
    try:
        return [*lines, _line(path, *last)]
    except UserError:
        if texts[-1]:  # it does not end with a newline
            return lines
        raise


def check(workdir: Path) -> None:
    """Checks that the log can be read.

    Raises:
      UserError: as `read`.
    """
    read(workdir)


def drop_after(workdir: Path, step: int) -> None:
    """Drops the lines of steps after `step`, which a resumed run takes again."""
    kept = [line for line in read(workdir) if line["step"] <= step]
    replace_text(workdir / FILE_NAME, "".join(json.dumps(line) + "\n" for line in kept))


def _line(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict) or not is_integer(line.get("step")):
        raise UserError(f"{path}: line {number} is no line of a run's log; remove it, or restore the file from a copy")
    return line
