"""Models by their names: those in the package, and repositories of Hugging Face."""

from importlib import resources
from pathlib import Path

from air_jax.checks import require
from air_jax.errors import UserError, first_line, nearest
from air_jax.registration.loading import load
from air_jax.registration.model_folder import CARD, CONFIG, WEIGHTS
from air_jax.registration.registration import Registration

_SHIPPED = "pretrained"  # folder of the package


def load_pretrained(name: str) -> Registration:
    """Loads a model by its name.

    Args:
      name: one of `pretrained_names()`, or `OWNER/NAME`, a repository of huggingface.co, which is downloaded once and
        needs the extra 'hub'.

    Returns:
      The registration, with its parameters on the default device.

    Raises:
      UserError: there is no such model, or it cannot be read or downloaded.

    Examples:
      >>> registration = air_jax.load_pretrained("shapes-2d")
      >>> type(registration.model).__name__, sum(leaf.size for leaf in jax.tree.leaves(registration.params))
      ('MatchingAiR', 38766)
    """
    return load(pretrained_folder(name))


def pretrained_names() -> list[str]:
    """Returns the names of the models in the package, sorted."""
    root = resources.files("air_jax") / _SHIPPED
    if not root.is_dir():
        return []
    return sorted(folder.name for folder in root.iterdir() if (folder / CONFIG).is_file())


def pretrained_folder(name: str) -> Path:
    """Returns the folder of a model, see `load_pretrained`; downloads it where it is not here.

    Args:
      name: its name.

    Raises:
      UserError: there is no such model, or it cannot be downloaded.

    Examples:
      >>> from air_jax.registration import pretrained_folder
      >>> sorted(path.name for path in pretrained_folder("shapes-2d").iterdir())
      ['README.md', 'config.json', 'model.safetensors']
    """
    require(isinstance(name, str), "name", name, "must be the name of a pretrained model")
    names = pretrained_names()
    if name in names:
        return Path(str(resources.files("air_jax") / _SHIPPED / name))
    if name.count("/") == 1 and all(name.split("/")):
        return _downloaded(name)
    near = nearest(name, names)
    hint = f"did you mean {near!r}? " if near else ""
    raise UserError(
        f"no pretrained model {name!r}: {hint}there are {', '.join(names) or 'none'}, and OWNER/NAME of huggingface.co"
    )


def _downloaded(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise UserError(f"{repository}: needs {error.name}; install air_jax with its extra 'hub'") from error
    try:
        return Path(snapshot_download(repository, allow_patterns=[WEIGHTS, CONFIG, CARD]))
    except Exception as error:  # of the hub, of the network, of the disk
        reason = first_line(error, length=200)
        raise UserError(f"{repository}: cannot be downloaded from huggingface.co ({reason})") from error
