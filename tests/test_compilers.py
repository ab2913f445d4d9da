"""The marker `real_compiler` decides with which optimisations a test's programs are compiled."""

import os
import subprocess
import sys

import jax
import pytest

NAME = "jax_disable_most_optimizations"


def flag_of_a_subprocess():
    program = f"import jax; print(int(jax.config.read('{NAME}')))"
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_tests_compile_without_most_optimisations(fast_compiler):
    assert jax.config.read(NAME) == fast_compiler
    assert os.environ[NAME.upper()] == flag_of_a_subprocess() == str(int(fast_compiler))


@pytest.mark.real_compiler
def test_marked_tests_compile_with_all_optimisations():
    assert not jax.config.read(NAME)
    assert flag_of_a_subprocess() == "0"
