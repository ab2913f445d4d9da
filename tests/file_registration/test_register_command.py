"""The command `python -m air_jax.register`: success, help, one line and exit status 2 for a mistake, compilation."""

import os
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
from helpers import REPOSITORY
from jax.experimental.compilation_cache import compilation_cache

from air_jax.file_registration import run, solve
from air_jax.file_registration.options import Options
from air_jax.file_registration.pair import read_pair

pytestmark = pytest.mark.slow


def command(*arguments, module="air_jax.register", **environment):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.indices((24, 20))
    for name, row in (("fixed", 11), ("moving", 13)):
        blob = np.exp(-((rows - row) ** 2 + (columns - 9) ** 2) / 20)
        PIL.Image.fromarray(np.round(255 * blob).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_the_command_registers_two_files(pictures, tmp_path):
    result = command(
        f"--fixed={pictures / 'fixed.png'}",
        f"--moving={pictures / 'moving.png'}",
        f"--output_dir={tmp_path / 'out'}",
        "--similarity=mse",
        "--affine=none",
        "--refine_steps=40",
    )
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "warped.png",
        "affine.mat",
        "deformation.nii.gz",
        "displacement.nii.gz",
        "inverse_displacement.nii.gz",
        "jacobian.nii.gz",
        "scores.json",
        "report.html",
        "report.png",
    }
    fixed, moving, warped = (
        np.asarray(PIL.Image.open(path)).astype(float)
        for path in (pictures / "fixed.png", pictures / "moving.png", tmp_path / "out" / "warped.png")
    )
    assert np.square(warped - fixed).mean() < 0.1 * np.square(moving - fixed).mean()
    lines = result.stdout.splitlines()
    steps = [line.split("  ")[-1].split(" (")[0] for line in lines if " s  " in line]
    assert steps == [
        "read",
        "affine",
        "initial displacement",
        "deformation, voxels x 4",
        "deformation, voxels x 2",
        "deformation, voxels x 1",
        "inverse, scores and files",
        "report",
    ]
    table = [line.split() for line in lines if " s  " not in line]
    assert table[0] == ["before", "after"]
    assert [row[0] for row in table[1:]] == ["ncc_overlap", "ncc", "coverage", "folding_percent"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "air_jax: --fixed must be given"),
        (("--fixed={0}/fixed.png", "--output_dir={1}"), "air_jax: --moving must be given"),
        (("--fixed={0}/fixed.png", "--moving={0}/nowhere.png", "--output_dir={1}"), "nowhere.png: not found; give"),
        (
            ("--fixed={0}/fixed.png", "--moving={0}/moving.png", "--output_dir={0}/fixed.png"),
            "/fixed.png: is a file; give a folder",
        ),
    ],
)
def test_a_mistake_ends_in_one_line_and_exit_status_2(pictures, tmp_path, arguments, message):
    result = command(*(argument.format(pictures, tmp_path / "out") for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_flag_of_the_wrong_type_is_refused(pictures, tmp_path):
    files = (f"--fixed={pictures / 'fixed.png'}", f"--moving={pictures / 'moving.png'}")
    result = command(*files, f"--output_dir={tmp_path / 'out'}", "--refine_steps=few")
    assert result.returncode != 0
    assert "--refine_steps" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_importing_a_command_defines_no_flag():
    program = (
        "from absl import app, flags, logging\n"  # they define flags of their own
        "before = set(flags.FLAGS)\n"
        "import air_jax.register, air_jax.evaluate, air_jax.main\n"
        "assert set(flags.FLAGS) == before, set(flags.FLAGS) - before\n"
        "air_jax.register.define_flags()\n"
        "assert {'fixed', 'workdir', 'refine_steps'} <= set(flags.FLAGS)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


# ---- Compilation ahead -----------------------------------------------------------------------------------------------


@pytest.fixture
def cached_programs(tmp_path):
    """Returns a function that runs an action with an empty compilation cache and names the programs it compiled."""
    kept = {
        name: getattr(jax.config, name)
        for name in (
            "jax_compilation_cache_dir",
            "jax_persistent_cache_min_compile_time_secs",
            "jax_persistent_cache_min_entry_size_bytes",
        )
    }

    def programs_of(name, action):
        folder = tmp_path / name
        for option, value in zip(kept, (str(folder), 0, -1), strict=True):
            jax.config.update(option, value)
        compilation_cache.reset_cache()
        jax.clear_caches()
        action()
        return {path.name for path in folder.iterdir() if path.name.endswith("-cache")}

    yield programs_of
    for option, value in kept.items():
        jax.config.update(option, value)
    compilation_cache.reset_cache()


# jax 0.10 gives programs compiled ahead other keys in its cache than the same programs when they run.
@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="jax 0.10 has other cache keys for programs compiled ahead")
def test_the_programs_compiled_ahead_are_those_that_run(pictures, tmp_path, cached_programs, without_report):
    options = Options(pictures / "fixed.png", pictures / "moving.png", tmp_path / "out", affine="none", refine_steps=1)
    pair = read_pair(options)

    def compile_ahead():
        solve.compile_deformation([pair])
        solve.compile_scores_and_import_report(pair.inputs)

    scores = []
    ahead = cached_programs("ahead", compile_ahead)
    both = cached_programs("both", lambda: scores.append(run.register_files(options, compile_ahead=True)))
    without = cached_programs("without", lambda: scores.append(run.register_files(options)))
    names = {"jit__refine", "jit__whole_inverse", "jit__displacement_scores"}
    ahead, both, without = ({key for key in found if key.split("-")[0] in names} for found in (ahead, both, without))
    assert {key.split("-")[0] for key in without} == names
    assert ahead == both == without
    assert scores[0]["after"] == scores[1]["after"]


def test_an_error_of_a_compiling_thread_ends_the_registration(pictures, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("the compiler failed")

    monkeypatch.setattr(solve, "compile_refine", fail)
    options = Options(pictures / "fixed.png", pictures / "moving.png", tmp_path / "out", affine="none", refine_steps=1)
    with pytest.raises(RuntimeError, match="the compiler failed"):
        run.register_files(options, compile_ahead=True)
