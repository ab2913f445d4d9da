"""Writing files so that a killed run leaves the old one or the new one, never half of one."""

from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Writes `text` to `path` in one go."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
