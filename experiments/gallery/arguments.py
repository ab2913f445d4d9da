"""The command line of the gallery's scripts: paths that must be given."""

import argparse
from pathlib import Path


def paths(description: str | None, *names: str) -> list[Path]:
    """Parses the command line.

    Args:
      description: text for `--help`.
      *names: names of the flags.

    Returns:
      Their values, in the order of the names.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    return [getattr(given, name) for name in names]
