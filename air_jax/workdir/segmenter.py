"""The segmenter inside a registration model: read from its own run at the start, then part of the registration's."""

from pathlib import Path
from typing import Any

from air_jax.errors import UserError
from air_jax.workdir.checkpoint import checkpoint_steps, restore_best_params
from air_jax.workdir.config import FILE_NAME, read
from air_jax.workdir.recipe import is_segmenter


def read_segmenter(workdir: str | Path) -> tuple[dict[str, Any], Any]:
    """Reads the run of a segmenter.

    Args:
      workdir: folder of the run.

    Returns:
      The entry `segmenter` of a registration's `config.json` (section `model` and `normalization`), and the parameters
      of the best checkpoint.

    Raises:
      UserError: the folder is not a segmenter's run, or nothing in it can be read.
    """
    workdir = Path(workdir).expanduser()
    config = read(workdir).config
    if not is_segmenter(config):
        raise UserError(
            f"--config.model.segmenter={str(workdir)!r}: is the run of the model {config.model.name!r}; "
            "give the workdir of a segmenter's run"
        )
    _, params = restore_best_params(workdir / "checkpoints")
    return {"model": config.model.to_dict(), "normalization": config.dataset.normalization}, params


def own_segmenter(workdir: Path) -> dict[str, Any] | None:
    """The entry `segmenter` of a run that has a checkpoint, which holds the parameters; None for any other folder."""
    if not (workdir / FILE_NAME).exists() or not checkpoint_steps(workdir / "checkpoints"):
        return None
    return read(workdir).segmenter
