"""Exports a trained model as a program that runs with JAX only: `air-jax export --workdir=runs/mnist --output_dir=o`.

The folder gets registration.stablehlo, a program of jax.export for CPU, CUDA and TPU that takes batches of any size,
and registration.json, which describes its inputs and outputs. docs/pretrained.md runs it in four lines.
"""

from absl import flags

from air_jax.runtime import command_line


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", None, "Folder of a trained run or of a saved model.")
    flags.DEFINE_string("pretrained", None, "Name of a pretrained model, instead of --workdir.")
    flags.DEFINE_string("output_dir", None, "Folder of the program.")
    flags.DEFINE_list("size", None, "Sizes of the images along each axis, such as 128,128. Default: as in training.")
    flags.DEFINE_integer("refine_steps", 0, "Steps of optimisation for each pair, after the model.")


def main() -> None:
    """Exports the model that the parsed flags name."""
    from air_jax.errors import UserError, naming_flag  # after the flags, so that a mistake in them is reported at once
    from air_jax.registration import load, pretrained_folder
    from air_jax.registration.exporting import export_registration

    given = flags.FLAGS
    if (given.workdir is None) == (given.pretrained is None):
        raise UserError("give one of --workdir and --pretrained")
    folder = command_line.path_of("output_dir", given.output_dir)
    if given.size is not None and not all(size.isascii() and size.isdigit() for size in given.size):
        raise UserError(f"--size={','.join(given.size)}: must be positive integers, one for each axis")
    size = None if given.size is None else [int(size) for size in given.size]
    own = given.pretrained is not None
    registration = load(pretrained_folder(given.pretrained) if own else command_line.path_of("workdir", given.workdir))
    with naming_flag():
        metadata = export_registration(registration, folder, size=size, refine_steps=given.refine_steps)
    shape = " x ".join(map(str, metadata["inputs"]["fixed"]["shape"][1:]))
    print(f"{folder / metadata['program']}: {metadata['bytes'] / 1e6:.2f} MB, images of {shape}, any batch")


def run() -> None:
    """Defines and parses the flags, and runs the command."""
    define_flags()
    command_line.run(main, "output_dir")


if __name__ == "__main__":
    run()
