"""The config files that ship with the package, by name: `mnist` is `configs/mnist.py`.

In a clone they are in the top-level folder `configs/`; an installed package contains them as `air_jax/configs/`.
"""

from pathlib import Path

from air_jax.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_configs() -> dict[str, Path]:
    """Returns the shipped config files by name, in alphabetical order.

    Raises:
      UserError: the installation contains no configs.
    """
    for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
        if (folder / "mnist.py").is_file():
            return {path.stem: path for path in sorted(folder.glob("*.py"))}
    raise UserError(f"{_PACKAGE}: the installation contains no configs; give --config the path of a file")


def is_name(config: str) -> bool:
    """Returns whether the value of `--config` is the name of a shipped config: without a folder and without `.py`."""
    return "/" not in config and not config.endswith(".py")


def path_of_name(name: str) -> Path:
    """Returns the file of a shipped config.

    Args:
      name: name of the file, without folder and `.py`.

    Raises:
      UserError: no config has this name. The message names the nearest one.
    """
    configs = shipped_configs()
    if name in configs:
        return configs[name]
    found = nearest(name, configs)
    advice = f"did you mean --config={found}?" if found else "air-jax train --list names all of them"
    raise UserError(f"--config={name}: no shipped config has this name; {advice}")
