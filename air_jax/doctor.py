"""Describes the installation: versions, devices, memory, caches, and the packages that features lack.

  python -m air_jax.doctor

A report of a fault should contain these lines.
"""

from air_jax.runtime import command_line


def main() -> None:
    """Prints the description."""
    from air_jax.runtime.installation import describe_installation

    print(describe_installation())


def run() -> None:
    """Runs the command with the arguments of the process."""
    command_line.run(main)


if __name__ == "__main__":
    run()
