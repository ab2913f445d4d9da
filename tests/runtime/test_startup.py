"""The compilation cache, and what a start's items add up to."""

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


def test_the_second_process_compiles_nothing(tmp_path):
    folder, programs, from_cache = run(XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "air_jax" / "xla"))
    assert programs > 0
    assert from_cache == 0
    assert run(XDG_CACHE_HOME=str(tmp_path)) == [folder, programs, programs]


def test_a_folder_that_the_user_named_is_used(tmp_path):
    folder, *_ = run(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"), XDG_CACHE_HOME=str(tmp_path / "other"))
    assert folder == str(tmp_path / "mine")
    assert any((tmp_path / "mine").iterdir())
    assert not (tmp_path / "other").exists()


def test_items_leave_compilation_out_and_nested_traces_count_once():
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


@pytest.mark.parametrize("cached", [True, False])
def test_one_config_key_turns_the_cache_off(tmp_path, cached):
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-m", "air_jax.main", "--config=configs/digits.py", f"--workdir={tmp_path / 'run'}"]
    command += [f"--config.{key}" for key in ("num_train_steps=2", "log_every=2", "eval_every=2", "batch_size=8")]
    command += [f"--config.compilation_cache={cached}", "--config.eval.num_pairs=8"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment | {"XDG_CACHE_HOME": str(tmp_path)}, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert "start-up: " in done.stdout
    assert "(0 of " in done.stdout
    assert (tmp_path / "air_jax").exists() == cached
