r"""Corrects the motion in a time series: aligns every frame to one reference.

  python -m air_jax.motion --input=bold.nii.gz --output_dir=corrected

The series is a NIfTI file with a time axis, or a TIFF with a page a frame. The results are the corrected series, its
mean, the motion of each frame in mm and degrees with the framewise displacement (motion.tsv), and a plot.
"""

from absl import flags

from air_jax.runtime import command_line


def define_flags() -> None:
    """Defines the flags of this command. Only the running command does so: names recur in other commands."""
    flags.DEFINE_string("input", None, "Series: .nii or .nii.gz with a time axis, or .tif with several pages.")
    flags.DEFINE_string("output_dir", None, "Folder of the results.")
    flags.DEFINE_string(
        "reference", "mean", "mean, first, middle, the number of a frame from 0, or an image on the same grid."
    )
    flags.DEFINE_string("kind", "rigid", "Map of each frame: translation, rigid, similarity or affine.")
    flags.DEFINE_string("mask", None, "Mask of the reference: 0 where it does not count, 1 where it does.")
    flags.DEFINE_string("interpolation", "cubic", "Interpolation of the corrected series: cubic or linear.")
    flags.DEFINE_boolean("affines", False, "Write each frame's map as a file of ITK, affine_0000.mat and so on.")


def main() -> None:
    """Corrects the series that the parsed flags name."""
    from air_jax.file_series.options import Options  # imported late, so that errors in flags appear at once
    from air_jax.file_series.run import correct_motion
    from air_jax.runtime import parallel, startup

    startup.use_compilation_cache()
    parallel.all_devices()
    given = flags.FLAGS
    correct_motion(
        Options(
            command_line.path_of("input", given.input),
            command_line.path_of("output_dir", given.output_dir),
            reference=str(command_line.path_of("reference", given.reference)),  # a word stays as it is
            kind=given.kind,
            mask=None if given.mask is None else command_line.path_of("mask", given.mask),
            interpolation=given.interpolation,
            affines=given.affines,
        )
    )


def run() -> None:
    """Runs the command with the arguments of the process."""
    define_flags()
    command_line.run(main, "input", "output_dir")


if __name__ == "__main__":
    run()
