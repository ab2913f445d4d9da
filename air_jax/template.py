r"""Builds the template of a group of images: its mean shape and intensity.

  python -m air_jax.template --images=FOLDER --output_dir=o
  python -m air_jax.template --images=FOLDER --labels=FOLDER --output_dir=o

Every image of the folder is a subject, 2-D or 3-D. The results are the template, each subject's transform to it and
the inverse, scores.json, and a figure of the rounds (report.png); with --labels also the voted label map. The same
command goes on where it was interrupted.
"""

from absl import flags

from air_jax.runtime import command_line


def define_flags() -> None:
    """Defines the flags of this command. Only the running command does so: names recur in other commands."""
    flags.DEFINE_string("images", None, "Folder with one image file a subject.")
    flags.DEFINE_string("output_dir", None, "Folder of the results.")
    flags.DEFINE_string("labels", None, "Folder of segmentations, files of the same names as the images.")
    flags.DEFINE_string("reference", None, "Image whose grid the template gets. Default: one that holds all images.")
    flags.DEFINE_string("start", "centres", "centres: aligned by centres of mass; headers: as the files place them.")
    flags.DEFINE_string("affine", "affine", "Affine maps: translation, rigid, similarity or affine.")
    flags.DEFINE_integer("affine_rounds", 2, "Rounds of affine registration.")
    flags.DEFINE_integer("rounds", 4, "Rounds of deformable registration.")
    flags.DEFINE_integer("refine_steps", 60, "Largest number of steps of each deformable registration.")
    flags.DEFINE_string("similarity", "lncc", "Similarity of the deformation.")
    flags.DEFINE_float("smoothness", 1.0, "Factor of the deformation's smoothness; larger is smoother.")
    flags.DEFINE_string("normalization", "percentile", "Intensities: percentile, foreground, ct or range.")
    flags.DEFINE_boolean("warped", False, "Also write each image on the template's grid.")


def main() -> None:
    """Builds the template that the parsed flags name."""
    from air_jax.file_templates.options import Options  # imported late, so that errors in flags appear at once
    from air_jax.file_templates.run import build_template
    from air_jax.runtime import parallel, startup

    startup.use_compilation_cache()
    parallel.all_devices()
    given = flags.FLAGS
    build_template(
        Options(
            command_line.path_of("images", given.images),
            command_line.path_of("output_dir", given.output_dir),
            labels=None if given.labels is None else command_line.path_of("labels", given.labels),
            reference=None if given.reference is None else command_line.path_of("reference", given.reference),
            start=given.start,
            affine=given.affine,
            affine_rounds=given.affine_rounds,
            rounds=given.rounds,
            refine_steps=given.refine_steps,
            similarity=given.similarity,
            smoothness=given.smoothness,
            normalization=given.normalization,
            warped=given.warped,
        )
    )


def run() -> None:
    """Runs the command with the arguments of the process."""
    define_flags()
    command_line.run(main, "images", "output_dir")


if __name__ == "__main__":
    run()
