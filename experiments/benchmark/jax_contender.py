"""air_jax doing each piece of work: its own train step, model and sampler."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from air_jax import warp
from air_jax.runtime.parallel import all_devices, use_cores
from air_jax.training.summary import count_flops
from air_jax.workdir.recipe import build_model, training_objective
from configs import mnist
from experiments.benchmark import training
from experiments.benchmark.works import STEPS_A_CALL, inference_images, train_images, warp_inputs

FEW_PAIRS = 16
Prepared = tuple[Callable[[], Any], dict[str, float]]


def prepare(work: str, volume_shape: tuple[int, ...], in_a_row: int) -> Prepared:
    """A call of one piece of work, and what XLA counts the call to cost."""
    if work.startswith("train_"):
        batch_size = int(work.removeprefix("train_"))
        use_cores(batch_size)
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "float32")  # PyTorch's default; XLA's is TensorFloat-32
    if work.startswith("train_"):
        return train(batch_size)
    if work == "inference":
        return inference(in_a_row)
    _, count, kind = work.split("_")
    return warping(int(count), kind, volume_shape, in_a_row)


def train(batch_size: int) -> Prepared:
    """`STEPS_A_CALL` steps, as `python -m air_jax.main` takes them."""
    config = mnist.get_config()
    model = build_model(config.model)
    objective = training_objective(config)
    images = train_images()[..., None]
    call, params = training.prepare(
        model, objective, images, batch_size, all_devices(), steps_a_call=STEPS_A_CALL, clip_norm=config.clip_norm
    )

    def loss(params, fixed, moving):
        displacement, _ = model.apply({"params": params}, fixed, moving)
        return jnp.mean(objective(fixed, warp(moving, displacement), displacement)[0])

    # Of a few pairs, in which nothing loops: XLA counts a loop's body once.
    batch = jnp.zeros((FEW_PAIRS, *images.shape[1:]))
    return call, _cost(STEPS_A_CALL * batch_size / FEW_PAIRS, jax.value_and_grad(loss), params, batch, batch)


def inference(in_a_row: int) -> Prepared:
    """The forward pass of a batch, and the warp of the moving images."""
    config = mnist.get_config()
    model = build_model(config.model)
    fixed, moving = (jnp.asarray(images)[..., None] for images in inference_images())
    params = jax.jit(model.init)(jax.random.key(0), fixed[:1], moving[:1])["params"]

    def register(params, fixed, moving):
        displacement, _ = model.apply({"params": params}, fixed, moving)
        return displacement, warp(moving, displacement)

    compiled = jax.jit(register)
    call = _repeated(lambda: compiled(params, fixed, moving), in_a_row)
    return call, _cost(in_a_row, register, params, fixed, moving)


def warping(count: int, kind: str, shape: tuple[int, ...], in_a_row: int) -> Prepared:
    """Warps of a batch of volumes, each with one gradient unless `kind` is `forward`."""
    volume, displacement, cotangent = map(jnp.asarray, warp_inputs(count, shape))
    functions = {
        "forward": lambda volume, displacement, _: warp(volume, displacement),
        "coordinates": lambda volume, displacement, cotangent: _value_and_vjp(
            lambda displacement: warp(volume, displacement), displacement, cotangent
        ),
        "image": lambda volume, displacement, cotangent: _value_and_vjp(
            lambda volume: warp(volume, displacement), volume, cotangent
        ),
    }
    compiled = jax.jit(functions[kind])
    return _repeated(lambda: compiled(volume, displacement, cotangent), in_a_row), {}


def _repeated(start: Callable[[], Any], times: int) -> Callable[[], Any]:
    """Starts work so many times, and waits for the last."""

    def call():
        for _ in range(times):
            results = start()
        return jax.block_until_ready(results)

    return call


def _value_and_vjp(function, argument, cotangent):
    value, vjp = jax.vjp(function, argument)
    return value, vjp(cotangent)


def _cost(times: float, function: Callable, *arguments: Any) -> dict[str, float]:
    flops = count_flops(function, *arguments)
    return {} if flops is None else {"flops": times * flops}
