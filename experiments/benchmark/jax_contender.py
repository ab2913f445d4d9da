"""air_jax doing each piece of work: its own train step, its own sampler."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from air_jax import config as configs
from air_jax import warp
from air_jax.losses import make_objective
from air_jax.optimizer import make_optimizer
from air_jax.parallel import AXIS_NAME, data_parallel, replicate
from air_jax.steps import init_state, make_train_steps
from configs import mnist
from experiments.benchmark.works import STEPS_A_CALL, train_images, warp_inputs


def train(batch_size: int) -> tuple[Callable[[], None], dict]:
    config = mnist.get_config()
    model = configs.build_model(config)
    images = train_images()[..., None]
    devices = jax.local_devices()
    optimizer = make_optimizer(config.learning_rate, config.schedule, config.warmup_steps, config.num_train_steps)
    objective = make_objective(**config.loss)
    steps = make_train_steps(
        model,
        optimizer,
        objective,
        seed=0,
        batch_size=batch_size,
        num_devices=len(devices),
        axis_name=AXIS_NAME,
    )
    state = init_state(model, optimizer, 0, images.shape[1:])

    def loss(params, fixed, moving):
        displacement, _ = model.apply({"params": params}, fixed, moving)
        return jnp.mean(objective(fixed, warp(moving, displacement), displacement)[0])

    batch = jnp.zeros((batch_size, *images.shape[1:]))
    cost = jax.jit(jax.value_and_grad(loss)).lower(state.params, batch, batch).compile().cost_analysis()
    run = data_parallel(steps, devices)
    state, images = replicate((state, images), devices)

    def call():
        nonlocal state
        state, metrics = run(state, images, STEPS_A_CALL)
        jax.block_until_ready((state, metrics))

    return call, {"flops": STEPS_A_CALL * cost["flops"], "bytes": STEPS_A_CALL * cost["bytes accessed"]}


def warping(kind: str, shape: tuple[int, ...]) -> tuple[Callable[[], None], dict]:
    volume, displacement, cotangent = (jnp.asarray(array)[None] for array in warp_inputs(shape))
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

    def call():
        jax.block_until_ready(compiled(volume, displacement, cotangent))

    return call, {}


def _value_and_vjp(function, argument, cotangent):
    value, vjp = jax.vjp(function, argument)
    return value, vjp(cotangent)
