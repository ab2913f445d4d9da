"""What the installation consists of: versions, devices, memory, caches, and the packages that features lack."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
from packaging.requirements import Requirement

from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.runtime.files import cache_folder
from air_jax.runtime.parallel import all_devices
from air_jax.runtime.startup import use_compilation_cache

_PACKAGE = Path(__file__).resolve().parent.parent
# Extra of the installation: the features that need it. "" is the installation without an extra.
FEATURES = {
    "": "the library: arrays, models, losses, metrics",
    "files": "register, batch, apply, motion, template",
    "train": "train, evaluate, runs in Python",
    "prepare": "download of data sets by TensorFlow Datasets",
}
_SHOWN = ("jax", "jaxlib", "flax", "optax", "numpy")


def install_command(extra: str) -> str:
    """Returns the `pip` command that installs the package with an extra, from the clone where there is one.

    Args:
      extra: name of the extra; "" for none.
    """
    package = "." if (_PACKAGE.parent / "setup.cfg").is_file() else "air_jax"
    return f"pip install '{package}[{extra}]'" if extra else f"pip install {package}"


def describe_installation() -> str:
    """Returns lines of text about versions, devices, memory, caches and the features whose packages are missing."""
    lines = [f"air_jax {__version__} in {_PACKAGE}"]
    lines += [f"Python {platform.python_version()} on {platform.system()} {platform.machine()} in {sys.prefix}"]
    lines += [", ".join(f"{name} {_version(name) or 'missing'}" for name in _SHOWN)]
    lines += ["", f"memory: {_memory()}; {os.cpu_count()} cores", *_devices()]
    lines += ["", "caches:", *_caches(), "", "features:", *_features()]
    return "\n".join(lines)


def missing_packages(extra: str) -> list[str]:
    """Returns the requirements of an extra that are not installed, or in another version, such as `nibabel>=5.3`.

    Args:
      extra: name of the extra; "" for the requirements of the library.

    Raises:
      importlib.metadata.PackageNotFoundError: air_jax itself is not installed.
    """
    missing = []
    for requirement in map(Requirement, importlib.metadata.requires("air_jax") or ()):
        marker, version = requirement.marker, _version(requirement.name)
        if extra and "extra" not in str(marker):
            continue
        if marker and not marker.evaluate({"extra": extra}):
            continue
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{requirement.name}{requirement.specifier}")
    return missing


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> str:
    try:
        total, free = (os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (ValueError, OSError):  # macOS does not tell the free pages
        return "unknown"
    return f"{_size(total)}, {_size(free)} of it unused"


def _devices() -> Iterator[str]:
    try:
        all_devices()
    except UserError as error:
        yield f"device: none; {error}"
        return
    for device in jax.local_devices():
        limit = (device.memory_stats() or {}).get("bytes_limit")
        yield f"device: {device.device_kind} ({device.platform})" + (f", {_size(limit)} of memory" if limit else "")
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        yield 'an NVIDIA GPU is not used: pip install "jax[cuda13]" (or "jax[cuda12]") installs JAX for it'


def _caches() -> Iterator[str]:
    for folder, content in ((use_compilation_cache(), "compiled programs"), (cache_folder(), "all of air_jax")):
        size = 0
        for path in folder.rglob("*"):
            with contextlib.suppress(OSError):  # another process may remove it, or the user may not read it
                size += path.stat().st_size if path.is_file() else 0
        yield f"  {content}: {folder}, {_size(size)}"
    data = os.environ.get("TFDS_DATA_DIR")
    yield f"  data sets of TensorFlow Datasets: {data or '~/tensorflow_datasets'}" + (
        "" if data else " (TFDS_DATA_DIR is not set)"
    )


def _features() -> Iterator[str]:
    try:
        for extra, feature in FEATURES.items():
            missing = missing_packages(extra)
            state = f"lacks {', '.join(missing)}; {install_command(extra)}" if missing else "complete"
            yield f"  {feature}: {state}"
    except importlib.metadata.PackageNotFoundError:
        yield f"  unknown, because air_jax is not installed; {install_command('')}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
