r"""Applies saved transforms to images, segmentations and points.

  python -m air_jax.apply --transform=registered --input=second_contrast.nii.gz --output=warped.nii.gz

A transform is a folder that `register` wrote, a displacement field (NIfTI, NRRD, MetaImage) or a transform of ITK and
ANTs (.mat, .tfm, .txt, .h5). Repeat --transform to chain several, in ANTs' order; the image is interpolated once:

  python -m air_jax.apply --transform=1Warp.nii.gz --transform=0GenericAffine.mat --input=labels.nii.gz \
      --reference=fixed.nii.gz --interpolation=label --output=labels_on_fixed.nii.gz

Points (.csv) move with the image that they belong to, from the moving to the fixed image:

  python -m air_jax.apply --transform=registered --input=landmarks.csv --output=landmarks_on_fixed.csv
"""

from absl import flags

from air_jax.runtime import command_line


def define_flags() -> None:
    """Defines the flags of this command. Only the running command does so: names recur in other commands."""
    flags.DEFINE_multi_string(
        "transform", None, "Folder that register wrote, or file of a transform; repeatable, first applied first."
    )
    flags.DEFINE_multi_string(
        "input", None, "Image, segmentation or points of the moving image; with --inverse of the fixed one; repeatable."
    )
    flags.DEFINE_string("output", None, "File of the result; with several inputs a folder.")
    flags.DEFINE_string("reference", None, "Image whose grid the result has. Default: the first field's grid.")
    flags.DEFINE_string("interpolation", "linear", "linear, nearest, or label: the label with the largest share.")
    flags.DEFINE_boolean("inverse", False, "Apply the inverse transform.")
    flags.DEFINE_float("background", 0.0, "Value of images outside of the input.")


def main() -> None:
    r"""Applies the transforms that the parsed flags name."""
    from air_jax.file_transforms.options import Options  # imported late, so that errors in flags appear at once
    from air_jax.file_transforms.run import apply_transforms
    from air_jax.runtime import parallel, startup

    startup.use_compilation_cache()
    parallel.all_devices()
    given = flags.FLAGS
    apply_transforms(
        Options(
            tuple(command_line.path_of("transform", text) for text in given.transform),
            tuple(command_line.path_of("input", text) for text in given.input),
            command_line.path_of("output", given.output),
            reference=None if given.reference is None else command_line.path_of("reference", given.reference),
            interpolation=given.interpolation,
            inverse=given.inverse,
            background=given.background,
        )
    )


def run() -> None:
    """Runs the command with the arguments of the process."""
    define_flags()
    command_line.run(main, "transform", "input", "output")


if __name__ == "__main__":
    run()
