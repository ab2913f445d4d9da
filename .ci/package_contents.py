"""Checks that the wheel and the sdist contain every file of the package, the configs, and one version."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

paths = {Path(path).suffix: Path(path) for path in sys.argv[1:]}
version = re.search(r'__version__ = "(.+)"', Path("air_jax/_version.py").read_text())[1]


def git(*command):
    """Returns the words that git prints."""
    return subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout.split()


expected = set(git("ls-files", "air_jax", "configs"))
tags = {tag for tag in git("tag", "--points-at", "HEAD") if tag.startswith("v")}
if tags - {f"v{version}"}:
    sys.exit(f"the tag {sorted(tags)} of this commit is not v{version}, the version of air_jax/_version.py")

with zipfile.ZipFile(paths[".whl"]) as wheel:
    in_wheel = set(wheel.namelist())
with tarfile.open(paths[".gz"]) as sdist:
    in_sdist = {name.partition("/")[2] for name in sdist.getnames()}

information = f"air_jax-{version}.dist-info"
missing = {re.sub("^configs/", "air_jax/configs/", path) for path in expected} - in_wheel
missing |= {f"{information}/licenses/LICENSE", f"{information}/entry_points.txt"} - in_wheel
missing |= (expected | {"LICENSE", "setup.cfg", "pyproject.toml", "CHANGELOG.md", "tests/conftest.py"}) - in_sdist
more = {path for path in in_wheel if not path.startswith(("air_jax/", information))}
if missing or more:
    sys.exit(f"missing: {sorted(missing)}; in the wheel, but not of the package: {sorted(more)}")
print(f"wheel: {len(in_wheel)} files, sdist: {len(in_sdist)} files, version {version}")
