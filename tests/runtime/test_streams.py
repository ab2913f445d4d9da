"""Standard streams that cannot fail, and Ctrl-C during imports."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import REPOSITORY

from air_jax.runtime import streams
from air_jax.runtime.interrupts import is_command

PROGRAM = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("streams", sys.argv[2])  # without the package, whose import takes seconds
streams = importlib.util.module_from_spec(spec)
spec.loader.exec_module(streams)
streams.keep_streams()
for i in range(20_000):
    print(i, flush=i % 100 == 0)
opened = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(opened, f"{opened} {i}".encode())
"""


def run_program(path, *prefix, **options):
    command = [sys.executable, "-c", PROGRAM, path, REPOSITORY / "air_jax" / "runtime" / "streams.py"]
    return subprocess.Popen([*prefix, *command], stderr=subprocess.PIPE, **options)


class Failing:
    """Raises where nobody can catch it."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_only_reports_to_a_closed_event_loop_are_not_printed(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(str(unraisable.exc_value)))
    streams.ignore_closed_loops()
    for error in (RuntimeError("Event loop is closed"), RuntimeError("mine"), ValueError("Event loop is closed")):
        Failing(error)
        gc.collect()
    assert seen == ["mine", "Event loop is closed"]


def test_a_reader_that_goes_away_does_not_end_the_program(tmp_path):
    reading, writing = os.pipe()
    process = run_program(tmp_path / "end", stdout=writing)
    os.close(writing)
    os.read(reading, 10)
    os.close(reading)
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert (tmp_path / "end").read_text().endswith(" 19999")


def test_a_full_disk_behind_stdout_does_not_end_the_program(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        process = run_program(tmp_path / "end", stdout=full)
        assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert (tmp_path / "end").exists()


def test_a_closed_stdout_is_not_given_to_the_next_file(tmp_path):
    process = run_program(tmp_path / "end", "sh", "-c", 'exec "$@" >&-', "sh")
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert int((tmp_path / "end").read_text().split()[0]) > 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["python", "-m", "air_jax.register", "--fixed=a"], True),
        (["python", "-u", "-m", "air_jax.main"], True),
        (["python", "/usr/bin/air-jax", "train"], True),
        (["python", "mine.py", "air_jax.register"], False),
        (["python", "-m", "pytest", "tests"], False),
        (["python", "-c", "import air_jax"], False),
        (["python"], False),
    ],
)
def test_commands_are_told_from_programs_that_import_the_package(arguments, expected):
    assert is_command(arguments) is expected


@pytest.mark.slow
def test_an_interrupt_during_imports_is_one_line():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "air_jax.register", "--fixed=a", "--moving=b", "--output_dir=c"]
    # A shell's job in the background ignores interrupts, and its children inherit that.
    options = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)
    limit = time.monotonic() + 30
    while "jaxlib" not in Path(f"/proc/{process.pid}/maps").read_text() and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert error == "air_jax: interrupted; the same command goes on where it can\n"
    assert process.returncode == 75
