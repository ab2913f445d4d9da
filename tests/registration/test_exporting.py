"""Exported registrations: run by JAX only, with batches of any size."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import air_jax
from air_jax.errors import OptionError
from air_jax.losses import make_objective
from air_jax.models import MatchingAiR
from air_jax.optimize import DenseField
from air_jax.registration.exporting import METADATA, PROGRAM, export_registration

RUN = """
import sys
sys.modules["air_jax"] = sys.modules["flax"] = sys.modules["optax"] = None  # not to be imported
import numpy as np
from jax import export
program = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
given = np.load(sys.argv[2])
displacement, warped = program.call(given["fixed"], given["moving"])
np.testing.assert_allclose(displacement, given["displacement"], atol=1e-4)
np.testing.assert_allclose(warped, given["warped"], atol=1e-4)
"""


@pytest.fixture(scope="module")
def registration():
    options = dict(downsampling=(1,), stride=(2,), patch_size=(2,), num_steps=(1,), radius=(1,), width=4)
    model, image = MatchingAiR(**options, feed_forward=4), np.zeros((1, 8, 8, 1), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), image, image)["params"]
    return air_jax.Registration(model, params, (8, 8, 1), 3, make_objective("mse"), DenseField())


@pytest.mark.slow
def test_an_exported_registration_runs_with_jax_only(registration, tmp_path):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: jax.export needs it to write files")
    metadata = export_registration(registration, tmp_path, size=(12, 10))
    assert metadata == json.loads((tmp_path / METADATA).read_text())
    assert metadata["inputs"]["fixed"]["shape"] == ["b", 12, 10, 1]
    assert metadata["outputs"]["displacement"]["shape"] == ["b", 12, 10, 2]
    assert metadata["step"] == 3
    fixed, moving = np.random.default_rng(0).random((2, 3, 12, 10, 1), dtype=np.float32)
    result = registration.register(fixed, moving)
    assert np.abs(result.displacement).max() > 0.01
    arrays = dict(fixed=fixed, moving=moving, displacement=result.displacement, warped=result.warped)
    np.savez(tmp_path / "pairs.npz", **arrays)
    command = [sys.executable, "-c", RUN, tmp_path / PROGRAM, tmp_path / "pairs.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("options", "message"), [({"size": (8,)}, "size"), ({"refine_steps": -1}, "refine_steps=-1")])
def test_wrong_options_of_an_export_are_refused(registration, tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        export_registration(registration, tmp_path, **options)
    assert not list(tmp_path.iterdir())
