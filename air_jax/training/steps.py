"""Training steps as one device sees them: pure functions, no loops over data, no input or output."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from air_jax.data import Images
from air_jax.data.augmentation import Augmentation, augment
from air_jax.data.deformation import Deformation
from air_jax.data.pairs import Pair, gather, pairs_of_step, step_key, unit_pair
from air_jax.training.memory import check_parameters

Params = Any
# `loss(apply, pair)`: with `apply(*images, deterministic=...)` the model at the present parameters, the loss `[B]` of
# pairs in [0, 1] and its unweighted terms by name, each `[B]`.
Loss = Callable[[Callable[..., Any], Pair], tuple[jax.Array, dict[str, jax.Array]]]

# `synthesize(keys, segmentations)` makes a pair of each segmentation `[B, *S]`, see `air_jax.data.synthetic.pairs`.
Synthesize = Callable[[jax.Array, jax.Array], Pair]


@flax.struct.dataclass
class TrainState:
    """State of a run between steps, and all that a checkpoint holds.

    Attributes:
      step: number of steps taken, int32 scalar.
      params: the model's parameters.
      opt_state: the optimizer's state.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState


def init_params(model: nn.Module, seed: int, image_shape: tuple[int, ...], num_images: int) -> Params:
    """Draws a model's parameters from `seed`, for `num_images` images of `image_shape` `(*S, C)`.

    Raises:
      UserError: the memory cannot hold them.
    """
    images = [jnp.zeros((1, *image_shape))] * num_images
    # A stream of its own: step numbers, which the draws of pairs are folded with, are never negative.
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
    # Compiled, the forward pass is left out; without, each of its operations is compiled by itself.
    init = jax.jit(model.init)
    check_parameters(jax.eval_shape(init, key, *images))
    return init(key, *images).get("params", {})


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def make_preparation(
    *,
    augmentation: Augmentation | None = None,
    deformation: Deformation | None = None,
    synthesize: Synthesize | None = None,
) -> Callable[[Pair, Callable[[int], jax.Array]], Pair]:
    """Builds the function that makes the pairs of a step as the model sees them.

    Args:
      augmentation, deformation, synthesize: see `make_train_steps`.

    Returns:
      `prepare(pair, keys)`: with `keys(stream)` the random keys `[B]` of one of the step's streams, the pair with
      float32 images in [0, 1].
    """

    def prepare(pair: Pair, keys: Callable[[int], jax.Array]) -> Pair:
        if synthesize is not None:
            pair = synthesize(keys(4), pair.segmentations()[0])
        else:
            pair, _ = unit_pair(pair) if deformation is None else unit_pair(pair, deformation, keys(2))
        return pair if augmentation is None else augment(keys(3), pair, augmentation)

    return prepare


def make_train_steps(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    *,
    seed: int,
    batch_size: int,
    num_devices: int,
    axis_name: str,
    augmentation: Augmentation | None = None,
    deformation: Deformation | None = None,
    synthesize: Synthesize | None = None,
    streaming: bool = False,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Builds the function that takes many training steps in one dispatch, for one of `num_devices` devices.

    The batch of a step is a function of (seed, step): every device draws the same global list of pairs and works on its
    own slice, and gradients are averaged over `axis_name`. So the number of devices does not change the result
    (dropout excepted, whose masks differ between devices).

    Args:
      model: the Flax module.
      optimizer: the gradient transformation.
      loss: loss of pairs, see `Loss`.
      seed: seed of all draws.
      batch_size: global, a multiple of `num_devices`.
      num_devices: devices over which `axis_name` is mapped.
      axis_name: name of the mapped axis.
      augmentation: random maps of pairs; None for none.
      deformation: artificial deformation that makes the fixed image of a pair from the moving one; None for none.
      synthesize: makes pairs of the fixed segmentations, see `Synthesize`; None for the images' own pairs.
      streaming: True if the images of each step's pairs come from the host, see `air_jax.data.stream`.

    Returns:
      `train_steps(state, images, device, num_steps)`, with `device` this device's index and `num_steps` a Python int.
      `images` are all training `Images`; with `streaming`, this device's `Pair` of arrays
      `[num_steps, batch_size / num_devices, ...]`. It returns the new state and, by name, each step's metrics
      `[num_steps]`: `loss`, its terms, and the Euclidean norms over all parameters `grad_norm` of the gradient before
      clipping, `update_norm` of the optimizer's update, and `param_norm` of the parameters after it.
    """
    local_size = batch_size // num_devices
    prepare = make_preparation(augmentation=augmentation, deformation=deformation, synthesize=synthesize)

    def local(array: jax.Array, device: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, device * local_size, local_size)

    def train_step(state: TrainState, pair: Pair, device: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        key = step_key(seed, state.step)

        def local_keys(stream: int) -> jax.Array:
            return local(jax.random.split(jax.random.fold_in(key, stream), batch_size), device)

        pair = prepare(pair, local_keys)
        rngs = {"dropout": jax.random.fold_in(jax.random.split(key)[1], device)}

        def mean_loss(params: Params) -> tuple[jax.Array, dict[str, jax.Array]]:
            return jax.tree.map(jnp.mean, loss(partial(model.apply, {"params": params}, rngs=rngs), pair))

        (value, terms), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        # One all-reduce of one array: each has to bring all devices together, which takes longer than the sum.
        flat, restore = ravel_pytree((grads, value, terms))
        grads, value, terms = restore(jax.lax.pmean(flat, axis_name))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norms = {"grad_norm": grads, "update_norm": updates, "param_norm": params}
        metrics = {"loss": value, **terms, **{name: optax.tree.norm(tree) for name, tree in norms.items()}}
        return TrainState(state.step + 1, params, opt_state), metrics

    def train_steps(
        state: TrainState, images: Images | Pair, device: jax.Array, num_steps: int
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        def one(state: TrainState, batch: Pair | None) -> tuple[TrainState, dict[str, jax.Array]]:
            if batch is None:
                assert isinstance(images, Images)
                indices = pairs_of_step(seed, state.step, len(images), batch_size, listed=images.pairs)
                batch = gather(images, *(local(index, device) for index in indices))
            return train_step(state, batch, device)

        batches: Any = images if streaming else None
        if num_steps == 1:  # without the loop, in which XLA's CPU compiler makes convolutions slow
            state, step_metrics = one(state, jax.tree.map(lambda array: array[0], batches))
            return state, jax.tree.map(lambda value: value[None], step_metrics)
        return jax.lax.scan(one, state, batches, length=num_steps)

    return train_steps
