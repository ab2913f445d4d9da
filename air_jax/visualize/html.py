"""Pages in one HTML file: a template of the folder `pages`, filled with data, styles and scripts."""

import base64
import importlib.resources
import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image

from air_jax.visualize.panels import printable


def page(template: str, content: Mapping[str, Any]) -> str:
    """Fills a template with its content and with what the pages share.

    Args:
      template: name of a file in the folder `pages`.
      content: data of the page as JSON can hold them; the pages share `title`, `warnings` and `tables`.

    Returns:
      The HTML text. It needs no other file and no network. Texts in `content` are data in it, never markup.
    """
    folder = importlib.resources.files("air_jax.visualize").joinpath("pages")
    text = folder.joinpath(template).read_text("utf-8")
    for name, file in (("$style\n", "shared.css"), ("$shared\n", "shared.js")):
        text = text.replace(name, folder.joinpath(file).read_text("utf-8"))
    # Nothing in the data can end the element that holds it.
    return text.replace("$data", json.dumps(content).replace("<", "\\u003c"))


def data_address(image: Image.Image, kind: str, **options: Any) -> str:
    """Returns an image as an address that contains it.

    Args:
      image: the image.
      kind: "JPEG" or "PNG".
      **options: passed to `Image.save`.
    """
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded.getvalue()).decode()}"


def number(value: float | None) -> str:
    """Returns a number with four digits; an empty text for None."""
    return "" if value is None else f"{value:.4g}"


def fact_table(name: str, rows: Mapping[str, str], *, folded: bool = False) -> dict[str, Any]:
    """Returns a table of names and texts, as the pages show it.

    Args:
      name: title of the table.
      rows: names and texts, which may come from users.
      folded: whether the table is closed until the reader opens it.
    """
    printed = [[printable(key), printable(value)] for key, value in rows.items()]
    return {"name": name, "columns": [], "rows": printed, "folded": folded}
