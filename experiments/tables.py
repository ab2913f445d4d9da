"""Tables of scores as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Columns = Mapping[str, tuple[str, str]]  # by the key of a score: its title and its format


def score_table(head: Sequence[str], rows: Iterable[tuple[Sequence[str], Mapping[str, Any]]], columns: Columns) -> str:
    """Returns a Markdown table.

    Args:
      head: titles of the columns that name a row.
      rows: names of each row, and its scores by their keys.
      columns: the scores that are shown. A row without one has an empty cell.
    """
    titles = [*head, *(title for title, _ in columns.values())]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for names, scores in rows:
        cells = [format(scores[key], style) if key in scores else "" for key, (_, style) in columns.items()]
        lines.append("| " + " | ".join([*names, *cells]) + " |")
    return "\n".join(lines) + "\n"
