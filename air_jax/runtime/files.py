"""Where files go, and writing them so that a killed run leaves the old one or the new one, never half of one."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The project's folder in the user's cache: in `XDG_CACHE_HOME`, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "air_jax"


def replace_text(path: Path, text: str) -> None:
    """Writes `text` to `path` in one go."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
