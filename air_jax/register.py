"""Registers two image files and writes the warped image, the displacement fields, scores and a report.

  python -m air_jax.register --fixed=fixed.nii.gz --moving=moving.nii.gz --output_dir=registered

Files may be NIfTI, NRRD, MetaImage, MGZ, PNG, JPEG, TIFF, NumPy or a DICOM folder. No training is needed: the moving
image is aligned by an affine, then a deformation is optimised for this pair. With --workdir, the model of a trained run
predicts the deformation, and --refine_steps optimises it further:

  python -m air_jax.register --fixed=a.png --moving=b.png --output_dir=registered --workdir=runs/mnist --refine_steps=60
"""

from absl import flags

from air_jax.file_registration import guiding_flags
from air_jax.runtime import command_line

_IMAGES = {
    "fixed": "Image that stays. Further contrasts of the same subject: --fixed again",
    "moving": "Image that is deformed onto the fixed image. Further contrasts: --moving again",
}
_FILES = {
    "output_dir": "Folder of the results: warped image, displacement fields, scores.json and report.png.",
    "workdir": "Folder of a trained run or saved model, which predicts the deformation. Default: no model.",
    "labels": "Segmentation of the moving image. It is also warped.",
    "fixed_labels": "Segmentation of the fixed image, for Dice and HD95 of each label. Needs --labels.",
    "landmarks": "CSV file of landmarks in the moving image: x, y[, z] in mm (LPS), for pictures in pixels.",
    "initial": "Transform to start from: a file of ITK or ANTs, a displacement field, or a folder of register.",
    "fixed_landmarks": "CSV file of the same landmarks in the fixed image, for target registration errors.",
    "fixed_mask": "Mask of the fixed image: 0 where it does not count, 1 where it does, floats between.",
    "moving_mask": "Mask of the moving image.",
}
_WORDS = {
    "pretrained": "Name of a pretrained model that predicts the deformation, instead of --workdir.",
    "similarity": "Similarity that the deformation maximises: mse, ncc, lncc, squared_lncc, mi, nmi or mind_ssc. "
    "Default: lncc, or the objective of the trained run.",
    "affine": "Affine: none, translation, rigid, similarity or affine. Default: affine, or none with --workdir.",
    "field": "Deformation that is optimised: dense, control_grid or velocity. Default: dense, or that of the run.",
    "stop_after": "affine: register the affine only.",
    "normalization": "Map to [0, 1]: percentile, foreground, ct or range. Default: percentile, or that of the run.",
}
_INTEGERS = {
    "max_size": "Pixels along the longer side of pictures as registered. Default: 1024, or any size with --workdir.",
    "refine_steps": "Largest number of optimisation steps for this pair. Default: 120, or 0 with --workdir.",
}
_FLOATS = {"background": "Value of the warped image outside of the moving image. Default: 0, air or white, see docs."}

_SWITCHES = {
    "fast": "Leaves out the finest level of the deformation: large volumes in half the time, a little less accurate."
}


def define_flags() -> None:
    """Defines the flags of this command. Only the running command does so: names recur in other commands."""
    for define, texts in (
        (flags.DEFINE_multi_string, _IMAGES),
        (flags.DEFINE_string, _FILES | _WORDS),
        (flags.DEFINE_integer, _INTEGERS),
        (flags.DEFINE_float, _FLOATS),
        (flags.DEFINE_bool, _SWITCHES),
    ):
        for name, text in texts.items():
            define(name, None, text)
    guiding_flags.define_flags()


def main() -> None:
    """Registers the two files that the parsed flags name."""
    from air_jax.file_registration.options import Options  # imported late, so that errors in flags appear at once
    from air_jax.file_registration.run import register_files
    from air_jax.runtime import parallel, startup

    startup.use_compilation_cache()
    parallel.all_devices()
    given = flags.FLAGS.flag_values_dict()
    images = {name: given[name] for name in _IMAGES}
    paths = {name: command_line.path_of(name, files[0]) for name, files in images.items()}
    paths |= {name: command_line.path_of(name, given[name]) for name in _FILES if given[name] is not None}
    others = {name: given[name] for name in (*_WORDS, *_INTEGERS, *_FLOATS, *_SWITCHES)}
    guiding = guiding_flags.guiding_options(given, images)
    register_files(Options(**paths, **others, guiding=guiding), compile_ahead=True)


def run() -> None:
    """Runs the command with the arguments of the process."""
    define_flags()
    command_line.run(main, "fixed", "moving", "output_dir")


if __name__ == "__main__":
    run()
