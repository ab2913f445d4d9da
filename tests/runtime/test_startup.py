"""The compilation cache, and the items of a run's start."""

import json
import os
import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest
from helpers import REPOSITORY

from air_jax.runtime import startup
from air_jax.runtime.files import cache_folder

RUN = """
import json, jax, jax.numpy as jnp
from air_jax.runtime import startup
folder = startup.use_compilation_cache()
clock = startup.CompileClock()
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(json.dumps([str(folder), clock.programs, clock.from_cache]))
"""


def run(**environment):
    kept = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=REPOSITORY, env=kept | environment, text=True, capture_output=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_second_process_compiles_nothing(tmp_path, monkeypatch):
    """The first process uses the default folder; the second one is told the same folder by the user."""
    folder, programs, from_cache = run(XDG_CACHE_HOME=str(tmp_path))
    assert programs > 0
    assert from_cache == 0
    again = run(JAX_COMPILATION_CACHE_DIR=folder, XDG_CACHE_HOME=str(tmp_path / "other"))
    assert again == [folder, programs, programs]
    assert not (tmp_path / "other").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder == str(cache_folder() / "xla" / startup._processor())


def test_items_exclude_compilation_and_nested_traces_count_once():
    clock = startup.CompileClock()
    inner = jax.jit(lambda x: jnp.cos(x) * 2.5)
    begun = time.perf_counter()
    jax.jit(lambda x: inner(x) + inner(x + 1.25))(jnp.arange(7.0)).block_until_ready()
    assert 0 < clock.seconds <= time.perf_counter() - begun
    assert clock.programs >= 1

    start = startup.StartUp(imports=1.0)
    with start.item("pause"):
        time.sleep(0.2)
        jax.jit(lambda x: jnp.tan(x) * 3.5)(jnp.arange(11.0)).block_until_ready()
    imports, pause = (
        float(text) for text in re.search(r"imports ([\d.]+) s, pause ([\d.]+) s, compile ", start.line()).groups()
    )
    assert imports == 1.0
    assert pause >= 0.2
    assert re.search(r"\(\d+ of [1-9]\d* programs from the cache\)$", start.line())


TRAIN = """
import runpy, jax
from air_jax.training import run
run.train = lambda *_, **__: print("cache:", jax.config.jax_compilation_cache_dir)
runpy.run_module("air_jax.main", run_name="__main__")
"""


@pytest.mark.slow
def test_a_cache_that_cannot_be_made_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    chosen = {}
    monkeypatch.setattr(startup.jax.config, "update", chosen.__setitem__)
    monkeypatch.setattr(type(startup.jax.config), "jax_compilation_cache_dir", None, raising=False)
    startup.use_compilation_cache()
    assert chosen["jax_compilation_cache_dir"] is None


@pytest.mark.parametrize("cached", [True, False])
def test_one_config_key_turns_the_cache_off(cached, tmp_path):
    """The command, without the training."""
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    flags = ["--config=configs/digits.py", f"--config.compilation_cache={cached}", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *flags],
        cwd=REPOSITORY,
        env=environment | {"XDG_CACHE_HOME": str(tmp_path)},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(f"cache: {tmp_path / 'air_jax'}" if cached else "cache: None")
