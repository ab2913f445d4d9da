"""Registers two image files and writes the warped image, the displacement fields, scores and a report.

  python -m air_jax.register --fixed=fixed.nii.gz --moving=moving.nii.gz --output_dir=registered

Files may be NIfTI, NRRD, MetaImage, MGZ, PNG, JPEG, TIFF, NumPy or a DICOM folder. No training is needed: the moving
image is aligned by an affine, then a deformation is optimised for this pair. With --workdir, the model of a trained run
predicts the deformation, and --refine_steps optimises it further:

  python -m air_jax.register --fixed=a.png --moving=b.png --output_dir=registered --workdir=runs/mnist --refine_steps=60
"""

from absl import flags

from air_jax.file_registration import guiding_flags, settings_flags
from air_jax.runtime import command_line

_IMAGES = {
    "fixed": "Image that stays. Further contrasts of the same subject: --fixed again",
    "moving": "Image that is deformed onto the fixed image. Further contrasts: --moving again",
}
_FILES = {
    "output_dir": "Folder of the results: warped image, displacement fields, scores.json and report.png.",
    "labels": "Segmentation of the moving image. It is also warped.",
    "fixed_labels": "Segmentation of the fixed image, for Dice and HD95 of each label. Needs --labels.",
    "landmarks": "CSV file of landmarks in the moving image: x, y[, z] in mm (LPS), for pictures in pixels.",
    "initial": "Transform to start from: a file of ITK or ANTs, a displacement field, or a folder of register.",
    "fixed_landmarks": "CSV file of the same landmarks in the fixed image, for target registration errors.",
    "fixed_mask": "Mask of the fixed image: 0 where it does not count, 1 where it does, floats between.",
    "moving_mask": "Mask of the moving image.",
}


def define_flags() -> None:
    """Defines the flags of this command. Only the running command does so: names recur in other commands."""
    for define, texts in ((flags.DEFINE_multi_string, _IMAGES), (flags.DEFINE_string, _FILES)):
        for name, text in texts.items():
            define(name, None, text)
    settings_flags.define_flags()
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
    guiding = guiding_flags.guiding_options(given, images)
    register_files(Options(**paths, **settings_flags.settings(given), guiding=guiding), compile_ahead=True)


def run() -> None:
    """Runs the command with the arguments of the process."""
    define_flags()
    command_line.run(main, "fixed", "moving", "output_dir")


if __name__ == "__main__":
    run()
