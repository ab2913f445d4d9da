"""What a train step on a full-size volume needs: memory by XLA's own analysis, and one pair for real.

  python -m experiments.benchmark.memory [--shape 160 192 224]
  python -m experiments.benchmark.memory --volumes brains2_1mm.npz --attention flash --num_steps 3

The first compiles loss and gradient of AiR for one pair for each way to compute the attention, and prints what XLA says
it needs; nothing is run. The second takes steps on the first two images of an npz file (key `image`, `[n, D, H, W]`
uint8), and prints the loss, the time and the largest memory of the whole process.
"""

import argparse
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from air_jax import AiR, warp
from air_jax.losses import make_objective
from experiments.benchmark import training

GIB = 2**30
# The options of the model by what they are called here.
ATTENTION = {"plain": {}, "remat": {"remat": True}, "flash": {"flash_attention": True}}


def make_model(arguments: argparse.Namespace, attention: str, dtype: str) -> AiR:
    return AiR(
        patch_size=arguments.patch_size,
        width=arguments.width,
        feed_forward=4 * arguments.width,
        dtype=jnp.dtype(dtype),
        **ATTENTION[attention],
    )


def analyse(model: AiR, shape: tuple[int, ...]) -> dict[str, float]:
    """GiB that one loss and its gradient need, for one pair of images of a shape, by XLA's analysis."""
    image = jax.ShapeDtypeStruct((1, *shape, 1), jnp.float32)
    objective = make_objective("mse", diffusion=0.01)

    def loss(variables, fixed, moving):
        displacement, _ = model.apply(variables, fixed, moving)
        return jnp.mean(objective(fixed, warp(moving, displacement), displacement)[0])

    variables = jax.eval_shape(model.init, jax.random.key(0), image, image)
    analysis = jax.jit(jax.value_and_grad(loss)).lower(variables, image, image).compile().memory_analysis()
    return {"temporary": analysis.temp_size_in_bytes / GIB, "arguments": analysis.argument_size_in_bytes / GIB}


def take_steps(model: AiR, images: np.ndarray, num_steps: int) -> None:
    """The train step of `air_jax.training.steps` on the pairs of `images` `[n, *S, C]`, one pair a step."""
    objective = make_objective("mse", diffusion=0.01)
    call, _ = training.prepare(model, objective, images, 1, jax.local_devices()[:1], steps_a_call=1)
    for step in range(num_steps):
        start = time.perf_counter()
        metrics = call()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"step {step + 1}: loss {metrics['loss'][0]:.6f}, {seconds:.1f} s, peak {peak:.1f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(160, 192, 224))
    parser.add_argument("--patch_size", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--attention", nargs="+", choices=ATTENTION, default=list(ATTENTION))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--volumes", type=Path)
    parser.add_argument("--num_steps", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.volumes:
        images = np.load(arguments.volumes)["image"][:2, ..., None]
        take_steps(make_model(arguments, arguments.attention[0], arguments.dtypes[0]), images, arguments.num_steps)
        return
    tokens = np.prod([-(-size // arguments.patch_size) for size in arguments.shape])
    print(f"{' x '.join(map(str, arguments.shape))}, patch {arguments.patch_size}: {tokens:,} tokens")
    print("| attention | dtype | temporary, GiB | arguments, GiB |\n|---|---|---|---|")
    for attention in arguments.attention:
        for dtype in arguments.dtypes:
            need = analyse(make_model(arguments, attention, dtype), tuple(arguments.shape))
            print(f"| {attention} | {dtype} | {need['temporary']:.2f} | {need['arguments']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
