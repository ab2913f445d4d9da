"""Train and evaluation steps as one device sees them: pure functions, no loops over data, no input or output."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from air_jax import metrics
from air_jax.data import Images
from air_jax.data.augmentation import Augmentation, augment
from air_jax.data.deformation import Deformation
from air_jax.data.pairs import Pair, gather, pairs_of_step, step_key, unit_pair
from air_jax.losses import Objective
from air_jax.training.pair_loss import NO_TERMS, TrainingTerms, pair_loss, segmenter_loss
from air_jax.transforms import warp

Params = Any


@flax.struct.dataclass
class TrainState:
    """What a run carries from step to step, and all that a checkpoint holds.

    Attributes:
      step: number of steps taken, int32 scalar.
      params: the model's parameters.
      opt_state: the optimiser's state.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState


def init_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int, image_shape: tuple[int, ...]
) -> TrainState:
    """The state before the first step: parameters drawn from `seed`, for images of `image_shape` `(*S, C)`."""
    image = jnp.zeros((1, *image_shape))
    # A stream of its own: step numbers, which the draws of pairs are folded with, are never negative.
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
    # Compiled, the forward pass is left out; without, each of its operations is compiled by itself.
    params = jax.jit(model.init)(key, image, image)["params"]
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def make_train_steps(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    seed: int,
    batch_size: int,
    num_devices: int,
    axis_name: str,
    terms: TrainingTerms = NO_TERMS,
    num_segmenter_steps: float = 0,
    augmentation: Augmentation | None = None,
    deformation: Deformation | None = None,
    streaming: bool = False,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Builds the function that takes many training steps in one dispatch, for one of `num_devices` devices.

    The batch of a step is a function of (seed, step): every device draws the same global list of pairs and works on its
    own slice, and gradients are averaged over `axis_name`. So the number of devices does not change what is computed
    (dropout excepted, whose masks differ between devices).

    Args:
      model: `model.apply({"params": params}, fixed, moving)` returns a displacement and intermediates.
      optimizer: the gradient transformation.
      objective: see `air_jax.losses.make_objective`.
      seed: seed of all draws.
      batch_size: global, a multiple of `num_devices`.
      num_devices: devices over which `axis_name` is mapped.
      axis_name: name of the mapped axis.
      terms: what the loss has beside the objective.
      num_segmenter_steps: in the first steps of a run the loss is that of the model's segmentations alone, which takes
        a part of the time; in all others it is without them, for an optimizer that leaves the segmenter as it is.
        What a step does not look at is NaN. `math.inf`: the segmentations alone in all steps, and nothing is NaN.
      augmentation: when given, how pairs are moved about.
      deformation: when given, the fixed image of a pair is the moving one, artificially deformed.
      streaming: whether the images of each step's pairs come from the host, see `air_jax.data.stream`.

    Returns:
      `train_steps(state, images, device, num_steps)`, with `device` this device's index and `num_steps` a Python int.
      `images` are all training `Images`, with segmentations where `terms` need them; with `streaming`, this device's
      `Pair` of arrays `[num_steps, batch_size / num_devices, ...]`. It returns the new state and, by name, each step's
      metrics `[num_steps]`: `loss`, its terms, and `grad_norm`.
    """
    local_size = batch_size // num_devices

    def local(array: jax.Array, device: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(array, device * local_size, local_size)

    def train_step(state: TrainState, pair: Pair, device: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        key = step_key(seed, state.step)
        keys = local(jax.random.split(jax.random.fold_in(key, 2), batch_size), device)
        pair, _ = unit_pair(pair, deformation, keys)
        if augmentation is not None:
            keys = local(jax.random.split(jax.random.fold_in(key, 3), batch_size), device)
            pair = augment(keys, pair, augmentation)
        rngs = {"dropout": jax.random.fold_in(jax.random.split(key)[1], device)}

        def mean_loss(loss, terms):
            def loss_fn(params):
                def predict(fixed, moving):
                    return model.apply({"params": params}, fixed, moving, deterministic=False, rngs=rngs)

                return jax.tree.map(jnp.mean, loss(predict, objective, terms, pair))

            return jax.value_and_grad(loss_fn, has_aux=True)

        if num_segmenter_steps == 0:
            (loss, parts), grads = mean_loss(pair_loss, terms)(state.params)
        elif num_segmenter_steps == math.inf:
            (loss, parts), grads = mean_loss(segmenter_loss, terms)(state.params)
        else:
            in_turns = (
                mean_loss(segmenter_loss, terms),
                mean_loss(pair_loss, terms._replace(segmentation=0.0)),
            )
            alone = state.step < num_segmenter_steps
            (loss, parts), grads = jax.lax.cond(alone, *_with_names_of_all(in_turns, state.params), state.params)
        # One all-reduce of one array: each has to bring all devices together, which takes longer than the sum.
        flat, restore = ravel_pytree((grads, loss, parts))
        grads, loss, parts = restore(jax.lax.pmean(flat, axis_name))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), {
            "loss": loss,
            **parts,
            "grad_norm": optax.tree.norm(grads),
        }

    def train_steps(state: TrainState, images: Images | Pair, device: jax.Array, num_steps: int):
        def one(state, batch):
            if not streaming:
                indices = pairs_of_step(seed, state.step, len(images), batch_size, images.pairs)
                batch = gather(images, *(local(index, device) for index in indices))
            return train_step(state, batch, device)

        batches = images if streaming else None
        if num_steps == 1:  # without the loop, in which XLA's CPU compiler makes convolutions slow
            state, step_metrics = one(state, jax.tree.map(lambda array: array[0], batches))
            return state, jax.tree.map(lambda value: value[None], step_metrics)
        return jax.lax.scan(one, state, batches, length=num_steps)

    return train_steps


def _with_names_of_all(losses: Sequence[Callable], params: Params) -> list[Callable]:
    """Losses and gradients of the same shapes: terms that one of them does not look at are NaN there."""
    names = {name for each in losses for name in jax.eval_shape(each, params)[0][1]}

    def padded(each):
        def run(params):
            (loss, parts), grads = each(params)
            return (loss, {name: parts.get(name, jnp.nan) for name in names}), grads

        return run

    return [padded(each) for each in losses]


def make_eval_step(
    model: nn.Module,
    deformation: Deformation | None = None,
    *,
    labels: tuple[int, ...] = (),
    refine: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None,
) -> Callable[..., dict[str, dict[str, jax.Array]]]:
    """Builds the function that scores a batch of pairs.

    Args:
      model: see `make_train_steps`.
      deformation: when given, fixed images are moving ones artificially deformed, and endpoint errors are scored too.
      labels: of the segmentations, where pairs have them: `dice` is then their mean, and `dice_1` that of label 1.
      refine: `(fixed, moving, displacement)` to a better displacement, where that is scored as well.

    Returns:
      `eval_step(params, pair, keys)`, with the keys `[B]` of the deformations (not used without); it returns `before`
      and `after` registration and, with `refine`, `refined`, each a dict of scores `[B]` (`air_jax.metrics`).
    """

    def eval_step(params: Params, pair: Pair, keys: jax.Array) -> dict[str, dict[str, jax.Array]]:
        (fixed, moving, *segmentations), truth = unit_pair(pair, deformation, keys)
        displacement, _ = model.apply({"params": params}, fixed, moving)

        def scores(displacement):
            result = metrics.image_scores(fixed, warp(moving, displacement)) | metrics.displacement_scores(displacement)
            if labels:
                fixed_segmentation, moving_segmentation = segmentations
                warped = warp(moving_segmentation, displacement, order=0)
                dice = metrics.label_dice(fixed_segmentation, warped, labels)
                result["dice"] = metrics.label_mean(dice)
                result |= {f"dice_{label}": dice[:, i] for i, label in enumerate(labels)}
            if truth is not None:
                result |= metrics.endpoint_errors(displacement, truth, fixed)
            return result

        result = {"before": scores(jnp.zeros_like(displacement)), "after": scores(displacement)}
        if refine is not None:
            result["refined"] = scores(refine(fixed, moving, displacement))
        return result

    return eval_step
