"""Four virtual CPU devices for every test; they must be asked for before JAX starts."""

import os
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()

# Runs in processes of their own must neither find nor leave anything in the user's cache; they share what they compile.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="air_jax_tests_")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{os.environ['XDG_CACHE_HOME']}/xla")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Each compiled program holds memory maps, of which Linux allows a process 65,530: beyond them it crashes."""
    yield
    jax.clear_caches()


@pytest.fixture
def digits_config():
    """configs/digits.py, shrunk to a few small steps."""
    from configs import digits

    config = digits.get_config()
    config.num_train_steps = 4
    config.batch_size = 8
    config.log_every = 2
    config.eval_every = 2
    config.eval.num_pairs = 12
    config.eval.batch_size = 8
    return config
