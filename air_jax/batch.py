r"""Registers many pairs of image files, in batches, and writes one table and one page of pictures.

  python -m air_jax.batch --pairs=pairs.csv --output_dir=registered

The table has the columns fixed and moving, and may have labels, fixed_labels, landmarks, fixed_landmarks, fixed_mask,
moving_mask, initial, rigid_region, keep_volume, guide_landmarks, fixed_guide_landmarks, guide_weight, guide_tolerance,
contrast_weights (as the flags of register) and output, the name of the pair's folder. Paths start at the table's
folder. A folder can be registered to one image:

  python -m air_jax.batch --images=subjects --reference=template.nii.gz --output_dir=registered

The same command goes on where it ended: finished pairs are skipped. A pair that fails does not stop the others.
"""

from absl import flags

from air_jax.file_registration import guiding_flags, settings_flags
from air_jax.runtime import command_line

_FILES = {
    "output_dir": "Folder of the results: one subfolder a pair, summary.csv and summary.png.",
    "pairs": "CSV file with one row a pair.",
    "images": "Folder of moving images, each registered to --reference.",
    "reference": "Fixed image of all --images. --rigid_region and --keep_volume are its regions.",
    "fixed_mask": "Mask of --reference: 0 where it does not count, 1 where it does, floats between.",
}


def define_flags() -> None:
    """Defines the flags of this command. Only the running command does so: names recur in other commands."""
    for name, text in _FILES.items():
        flags.DEFINE_string(name, None, text)
    settings_flags.define_flags()
    guiding_flags.define_flags(of_one_pair=False)


def main() -> None:
    """Registers the pairs that the parsed flags name."""
    from air_jax.file_batches.options import BatchOptions  # imported late, so that errors in flags appear at once
    from air_jax.file_batches.run import register_batch
    from air_jax.runtime import parallel, startup

    startup.use_compilation_cache()
    parallel.all_devices()
    given = flags.FLAGS.flag_values_dict()
    paths = {name: command_line.path_of(name, given[name]) for name in _FILES if given[name] is not None}
    guiding = guiding_flags.guiding_options(given, {})
    register_batch(BatchOptions(**paths, **settings_flags.settings(given), guiding=guiding))


def run() -> None:
    """Runs the command with the arguments of the process."""
    define_flags()
    command_line.run(main, "output_dir")


if __name__ == "__main__":
    run()
