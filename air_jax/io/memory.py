"""Sizes that a file's header declares, checked before memory is allocated for them."""

from pathlib import Path

from air_jax.errors import UserError

DEFLATE = 1032  # largest factor by which Deflate (gzip, zip, PNG) compresses
_COPIES = 2  # of an image, while its values are converted
_CGROUP = Path("/sys/fs/cgroup")


def check_declared(path: Path, declared: int, *, held: int | None = None) -> None:
    """Checks that a file can hold the values that its header declares, and that the memory can.

    Args:
      path: the file.
      declared: size of the values in bytes.
      held: size in bytes that the file can hold, None where its compression has no limit.

    Raises:
      UserError: one line that names the file and gives both sizes.
    """
    if held is not None and declared > held:
        raise UserError(
            f"{path}: damaged, or not a complete file (its header declares {size_text(declared)}, "
            f"it can hold {size_text(held)})"
        )
    available = available_memory()
    if available is not None and declared * _COPIES > available:
        raise UserError(
            f"{path}: needs {size_text(declared * _COPIES)} of memory, {size_text(available)} are available; "
            "make the image smaller first"
        )


def available_memory() -> int | None:
    """Returns the free memory in bytes, of the machine and of the container; None where it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - int(used)))


def size_text(size: float) -> str:
    """Returns a number of bytes as text, such as "1.5 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
