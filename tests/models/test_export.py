"""Exported programs: run by JAX alone, for other batches and sizes, on the platform for which each part is chosen."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from model_helpers import perturbed

from air_jax import AiR, warp

RUN = """
import sys
sys.modules["air_jax"] = sys.modules["flax"] = None  # not to be imported
import numpy as np
from jax import export
program = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
for index in range(2):
    given = np.load(f"{sys.argv[1]}.{index}.npz")
    np.testing.assert_allclose(program.call(given["fixed"], given["moving"]), given["warped"], atol=1e-5)
"""


@pytest.mark.slow
def test_an_artefact_runs_with_jax_alone_on_two_batches_and_sizes(tmp_path):
    pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: jax.export needs it to write files")
    model, image = AiR(patch_size=4), jnp.zeros((1, 8, 8, 1))
    params = perturbed(model.init(jax.random.key(0), image, image), 0.1)

    def register(fixed, moving):
        return warp(moving, model.apply(params, fixed, moving)[0])

    batch, height, width = export.symbolic_shape("b, 4*h, 4*w", constraints=["h >= 2", "w >= 2"])
    shape = jax.ShapeDtypeStruct((batch, height, width, 1), jnp.float32)
    artefact = export.export(jax.jit(register), platforms=("cpu", "cuda", "tpu"))(shape, shape)
    path = tmp_path / "air.bin"
    path.write_bytes(artefact.serialize())
    generator = np.random.default_rng(0)
    for index, sizes in enumerate([(1, 8, 8, 1), (17, 12, 8, 1)]):
        fixed, moving = generator.random((2, *sizes), dtype=np.float32)
        np.savez(f"{path}.{index}.npz", fixed=fixed, moving=moving, warped=register(fixed, moving))
    done = subprocess.run([sys.executable, "-c", RUN, path], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="small attention is not used before jax 0.11")
def test_each_platform_gets_its_own_attention_and_memory_order():
    """On a CPU a jitted program has the order of axes of small attention; other platforms have matrix products."""
    model, image = AiR(patch_size=4), jnp.zeros((16, 8, 8, 1))
    params = jax.eval_shape(model.init, jax.random.key(0), image, image)
    program = jax.jit(model.apply)
    text = {
        name: program.trace(params, image, image).lower(lowering_platforms=(name,)).as_text()
        for name in ("cpu", "cuda")
    }
    assert "LayoutConstraint" in text["cpu"]
    assert "LayoutConstraint" not in text["cuda"]
    assert text["cuda"].count("dot_general") == text["cpu"].count("dot_general") + 2 * 3  # of three attentions
