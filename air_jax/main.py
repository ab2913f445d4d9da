"""Trains, evaluates and draws: `python -m air_jax.main --config=mnist [--workdir=runs/mnist]`.

A config is the name of one that ships with the package, which --list shows, or a Python file such as configs/mnist.py.
A key of the config is changed by `--config.key=value`. The same command resumes an interrupted run. With several
processes, on one host or on many, the same command is started once for each, with `--distributed` or with
`--coordinator_address`, `--num_processes` and its own `--process_id`.
"""

import sys
import time
from pathlib import Path

from absl import flags

from air_jax.runtime import command_line
from air_jax.runtime.config_file import ConfigFileParser

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines the flags of the command."""
    from ml_collections import config_flags

    config_flags.DEFINE_config_file(
        "config",
        None,
        "Name of a shipped config, or Python file with a get_config(); --config.key=value changes a key.",
        lock_config=True,
    )
    FLAGS["config"].parser = ConfigFileParser("config", FLAGS["config"].parser)
    flags.DEFINE_boolean("list", False, "Print the shipped configs: model, data, training, time.")
    flags.DEFINE_string("workdir", None, "Folder of the run. Default: runs/<name of the config file>.")
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT at which process 0 listens to the others.")
    flags.DEFINE_integer("num_processes", None, "Number of processes that train together.")
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")
    flags.DEFINE_boolean("distributed", False, "Take these three from the cluster (SLURM, Cloud TPU, ...).")


def main() -> None:
    """Runs the command with the parsed flags."""
    # After the flags, so that a mistake in them is reported at once.
    from ml_collections import config_flags

    from air_jax.runtime import parallel, processes, startup
    from air_jax.training.run import train

    # Until here the process has only imported, so its CPU time is that of the imports.
    start = startup.StartUp(imports=time.process_time())
    config = FLAGS.config
    if config.get("compilation_cache"):
        startup.use_compilation_cache()
    if FLAGS.coordinator_address is None and not FLAGS.distributed:
        parallel.use_cores(config.get("batch_size", 1))
    name = Path(config_flags.get_config_filename(FLAGS["config"])).stem
    workdir = Path("runs") / name if FLAGS.workdir is None else command_line.path_of("workdir", FLAGS.workdir)
    address, count, index = FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id
    with processes.joined(address, count, index, detect=FLAGS.distributed):
        train(config, workdir, start=start)


def run() -> None:
    """Defines and parses the flags, and runs the command."""
    with command_line.naming_extra("train"):
        define_flags()
        if "--list" in sys.argv[1:]:
            from air_jax.runtime.streams import keep_streams
            from air_jax.workdir.config_list import config_table

            keep_streams()
            print(config_table(), flush=True)
            return
    command_line.run(main, "config", extra="train")


if __name__ == "__main__":
    run()
