"""Trains, evaluates and draws: `python -m air_jax.main --config=configs/mnist.py [--workdir=runs/mnist]`.

With several processes, on one host or on many, the same command is started once for each, with `--distributed` or with
`--coordinator_address`, `--num_processes` and its own `--process_id`.
"""

import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from air_jax.runtime import command_line

FLAGS = flags.FLAGS
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Python file with a get_config(); --config.key=value overrides a key.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run. Default: runs/<name of the config file>.")
COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT at which process 0 listens to the others."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes train together.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
DISTRIBUTED = flags.DEFINE_boolean("distributed", False, "Let the cluster (SLURM, Cloud TPU, ...) tell these three.")


def main() -> None:
    from air_jax.runtime import parallel, startup
    from air_jax.training.run import train  # after the flags, so that a mistake in them is told at once

    # Until here the process has done nothing but import, so the processor's time is what imports took.
    start = startup.StartUp(imports=time.process_time())
    if CONFIG.value.get("compilation_cache"):
        startup.use_compilation_cache()
    if COORDINATOR_ADDRESS.value is None and not DISTRIBUTED.value:
        parallel.use_cores(CONFIG.value.get("batch_size", 1))
    workdir = WORKDIR.value or Path("runs") / Path(config_flags.get_config_filename(FLAGS["config"])).stem
    with parallel.processes(COORDINATOR_ADDRESS.value, NUM_PROCESSES.value, PROCESS_ID.value, detect=DISTRIBUTED.value):
        train(CONFIG.value, workdir, start=start)


if __name__ == "__main__":
    command_line.run(main, "config")
