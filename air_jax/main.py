"""Trains, evaluates and draws: `python -m air_jax.main --config=configs/mnist.py [--workdir=runs/mnist]`."""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from air_jax import command_line

FLAGS = flags.FLAGS
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Python file with a get_config(); --config.key=value overrides a key.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run. Default: runs/<name of the config file>.")


def main() -> None:
    from air_jax.train import train  # after the flags, so that a mistake in them is told at once

    workdir = WORKDIR.value or Path("runs") / Path(config_flags.get_config_filename(FLAGS["config"])).stem
    train(CONFIG.value, workdir)


if __name__ == "__main__":
    command_line.run(main, required="config")
