"""Environment of every test: four virtual CPU devices, a fast compiler, a compile cache for all processes."""

import atexit
import collections
import fcntl
import importlib
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

# All of this must be set before JAX starts. Subprocesses inherit it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # JAX 0.10 logs an error for every program from the cache

# Optimising a small program takes longer than running it unoptimised. .ci/full sets this to 0.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# The kernels of jaxlib 0.10 that precede its fusion emitters compile in half the time; jaxlib 0.11 has no others.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

# Compiled programs are kept between test runs, for all workers; `pytest --cache-clear` removes them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "d" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Tests neither read nor write the user's cache folder. The workers of pytest-xdist inherit the folder of their parent.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="air_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import jax
import pytest
from helpers import FASTEST_UNET
from thorough_cases import THOROUGH_CASES

# Pytest imports it when an object ends badly; within the lazy imports of tensorflow_datasets that would fail.
importlib.import_module("tracemalloc")

TESTS = Path(__file__).parent
FAST_COMPILER = jax.config.read("jax_disable_most_optimizations")

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Lets pytest-xdist keep the order of `pytest_collection_modifyitems`, and not sort files by number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)  # before pytest leaves tests out by their marks
def pytest_collection_modifyitems(items):
    """Marks the thorough cases; runs files with many slow tests first, so that no worker ends long after the others.

    In each file, tests with the real compiler come last: a change of compilers forgets all compiled programs.
    """
    for item in items:
        cases = THOROUGH_CASES.get(item.path.relative_to(TESTS).as_posix(), ())
        if item.name.startswith(cases):
            item.add_marker("slow")
            item.add_marker("thorough")
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (-slow[item.path], item.path, bool(item.get_closest_marker("real_compiler"))))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Chooses the compiler before fixtures run: `real_compiler` tests compile as users do, in subprocesses also."""
    fast = FAST_COMPILER and item.get_closest_marker("real_compiler") is None
    if fast != jax.config.read("jax_disable_most_optimizations"):
        jax.clear_caches()  # programs in memory are found by function and shape, whatever they were compiled with
        jax.config.update("jax_disable_most_optimizations", fast)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(fast))


@pytest.fixture(scope="session")
def fast_compiler():
    """Whether tests without the marker compile without most optimisations."""
    return FAST_COMPILER


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Each compiled program holds memory maps, of which Linux allows a process 65,530: beyond them it crashes."""
    yield
    jax.clear_caches()


@pytest.fixture
def digits_config():
    """A few small steps on digits, by the model that compiles fastest."""
    from configs import digits, mnist_unet

    config = mnist_unet.get_config()
    config.dataset = digits.get_config().dataset
    config.model.update(FASTEST_UNET)
    config.schedule = "constant"  # more steps continue a run
    config.num_train_steps = 4
    config.batch_size = 8
    config.log_every = 2
    config.eval_every = 2
    config.eval.num_pairs = 12
    config.eval.batch_size = 8
    return config


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The workdir of a finished run on digits, 5 steps with a checkpoint after 4, made once for all workers.

    Tests only read it. A test that changes it copies it first.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers
    workdir = folder / "finished_run"
    with (folder / "finished_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not workdir.exists():
            _train(folder / "finished_run_in_progress")
            (folder / "finished_run_in_progress").rename(workdir)
    return workdir


def _train(workdir):
    from air_jax.training.run import train
    from configs import digits

    config = digits.get_config()
    config.num_train_steps, config.batch_size, config.log_every, config.eval_every = 5, 8, 2, 4
    config.eval.num_pairs, config.eval.batch_size = 12, 8
    train(config, workdir)
