"""The list of the shipped configs: what each expects as data, its model, the pairs it trains with, and the time."""

import re
import runpy
from pathlib import Path

from air_jax.runtime.shipped_configs import shipped_configs

_FOOT = """
STACK.npz: images on one grid, FOLDER: one image file a subject; --config.dataset.name=PATH names either.
A run of a segmenter: train the segmenter's config first; --config.model.segmenter=WORKDIR names it.
air-jax train --config=NAME starts a run; the config's file says more."""
_HEAD = ("config", "model", "data", "training", "time")


def config_table() -> str:
    """Returns a table with one line for each shipped config.

    Data in capital letters stands for a file or folder that the user gives by `--config.dataset.name`. The time is that
    of the config's docstring, empty where it states none.
    """
    rows = [_HEAD, *(_row(name, path) for name, path in shipped_configs().items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]) + "\n" + _FOOT


def _row(name: str, path: Path) -> tuple[str, ...]:
    module = runpy.run_path(str(path))
    config, text = module["get_config"](), " ".join(module["__doc__"].split())
    data = config.dataset.name or ("STACK.npz" if re.search(r"dataset\.name=\S+\.npz", text) else "FOLDER or STACK.npz")
    if "segmenter" in config.model and "model.segmenter=" in text:
        data += ", run of a segmenter"
    unit = "image" if config.model.name == "segmenter" else "pair"
    training = "nothing to train"
    if config.num_train_steps:
        training = f"{config.num_train_steps:,} steps of {config.batch_size} {unit}{'s' * (config.batch_size > 1)}"
    time = re.search(r"in (\S+(?: \S+){0,3}? (?:on two CPU cores|of CPU time))", text)
    return name, config.model.name, data, training, time[1] if time else ""
