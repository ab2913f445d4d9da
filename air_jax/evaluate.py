"""Scores a trained run again and writes `eval.json` and the figures into its folder.

python -m air_jax.evaluate --workdir=runs/mnist
"""

from absl import flags

from air_jax.runtime import command_line


def define_flags() -> None:
    """Defines the flags of this command. Only the running command does so: names recur in other commands."""
    flags.DEFINE_string("workdir", None, "Folder of a trained run.")


def main() -> None:
    """Scores the run that the parsed flags name."""
    from air_jax.training.run import evaluate  # imported late, so that errors in flags appear at once

    evaluate(flags.FLAGS.workdir)


def run() -> None:
    """Runs the command with the arguments of the process."""
    define_flags()
    command_line.run(main, "workdir")


if __name__ == "__main__":
    run()
