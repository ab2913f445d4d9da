"""Scores a trained run again: `python -m air_jax.evaluate --workdir=runs/mnist`."""

from absl import flags

from air_jax.runtime import command_line

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")


def main() -> None:
    from air_jax.training.run import evaluate  # after the flags, so that a mistake in them is told at once

    evaluate(WORKDIR.value)


if __name__ == "__main__":
    command_line.run(main, "workdir")
