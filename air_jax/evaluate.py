"""Scores a trained run again: `python -m air_jax.evaluate --workdir=runs/mnist`.

Writes `eval.json` and the figures of the run's best checkpoint, and prints the table.
"""

from absl import flags

from air_jax.runtime import command_line


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", None, "Folder of a run.")


def main() -> None:
    """Runs the command with the parsed flags."""
    from air_jax.runtime import parallel  # after the flags, so that a mistake in them is reported at once
    from air_jax.training.run import evaluate

    parallel.all_devices()
    evaluate(command_line.path_of("workdir", flags.FLAGS.workdir))


def run() -> None:
    """Defines and parses the flags, and runs the command."""
    define_flags()
    command_line.run(main, "workdir", extra="train")


if __name__ == "__main__":
    run()
