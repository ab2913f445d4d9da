"""`metrics.jsonl`, the log of a run: steps and validations, one JSON object a line."""

import json
from pathlib import Path
from typing import Any

from air_jax.runtime.files import replace_text

FILE_NAME = "metrics.jsonl"


def append(workdir: Path, line: dict[str, Any]) -> None:
    """Adds a line to the log of `workdir`."""
    with (workdir / FILE_NAME).open("a") as log:
        log.write(json.dumps(line) + "\n")


def read(workdir: Path) -> list[dict[str, Any]]:
    """Returns the lines of the log, without lines that a killed run cut short; an empty list where there is no log."""
    lines = []
    if (workdir / FILE_NAME).exists():
        for text in (workdir / FILE_NAME).read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    return lines


def drop_after(workdir: Path, step: int) -> None:
    """Drops the lines of steps after `step`, which a resumed run takes again."""
    kept = [line for line in read(workdir) if line["step"] <= step]
    replace_text(workdir / FILE_NAME, "".join(json.dumps(line) + "\n" for line in kept))
