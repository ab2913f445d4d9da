"""Draws training pairs as the model sees them: `air-jax samples --config=configs/shapes.py --output=sheet.png`.

Artificial deformations, synthesised contrasts and augmentation are included. A key of the config is changed by
`--config.key=value`, as in training.
"""

from absl import flags

from air_jax.runtime import command_line
from air_jax.runtime.config_file import ConfigFileParser


def define_flags() -> None:
    """Defines the flags of the command."""
    from ml_collections import config_flags

    text = "Config of a run, as for training; --config.key=value changes a key."
    config_flags.DEFINE_config_file("config", None, text, lock_config=True)
    flags.FLAGS["config"].parser = ConfigFileParser("config", flags.FLAGS["config"].parser)
    flags.DEFINE_string("output", None, "Picture that is written, such as sheet.png.")
    flags.DEFINE_integer("step", 0, "Training step whose pairs are drawn.", lower_bound=0)
    flags.DEFINE_integer("num_pairs", 8, "Number of pairs.", lower_bound=1, upper_bound=64)


def main() -> None:
    """Draws the pairs that the parsed flags name."""
    from air_jax.runtime import parallel, startup  # after the flags, so that a mistake in them is reported at once
    from air_jax.training.samples import draw_samples

    given = flags.FLAGS
    startup.use_compilation_cache()
    parallel.all_devices()
    path = command_line.path_of("output", given.output)
    draw_samples(given.config, path, step=given.step, num_pairs=given.num_pairs)
    print(path)


def run() -> None:
    """Defines and parses the flags, and runs the command."""
    with command_line.naming_extra("train"):
        define_flags()
    command_line.run(main, "config", "output", extra="train")


if __name__ == "__main__":
    run()
