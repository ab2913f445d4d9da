"""The optimiser that a config describes: Adam, with the learning rate over the steps and gradients clipped."""

import math
from typing import Any

import optax

from air_jax.models import segmenter

SCHEDULES = ("constant", "cosine")


def make_optimizer(
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    num_train_steps: int,
    clip_norm: float = 0.0,
    *,
    num_segmenter_steps: float = 0,
) -> optax.GradientTransformation:
    """Adam (paper section 3.1).

    Args:
      learning_rate: the highest.
      schedule: `constant`, or `cosine` for a fall to 1 % of it at the last step.
      warmup_steps: steps over which it rises linearly from 0 first.
      num_train_steps: all steps, those of the warm-up among them.
      clip_norm: gradients whose norm, over all parameters that train together, is larger are scaled down to it; 0
        leaves all as they are.
      num_segmenter_steps: the first of all steps, which move the segmenter alone; the others move all but it. Each of
        the two trainings has a schedule, a warm-up and an Adam of its own. `math.inf`: all steps move it alone.

    Raises:
      KeyError: an unknown schedule.
    """

    def adam(num_steps):
        rate = _rate(learning_rate, schedule, warmup_steps, num_steps)
        if not clip_norm:
            return optax.adam(rate)
        return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adam(rate))

    if not num_segmenter_steps:
        return adam(num_train_steps)
    if num_segmenter_steps == math.inf:
        parts = {"first": adam(num_train_steps), "then": optax.set_to_zero()}
        return optax.partition(parts, _parts)
    # They count steps themselves, from the state's first on, as `air_jax.training.steps` does: the state is restored
    # whole.
    parts = {
        "first": optax.conditionally_mask(adam(num_segmenter_steps), lambda step: step < num_segmenter_steps),
        "then": optax.conditionally_mask(
            adam(num_train_steps - num_segmenter_steps), lambda step: step >= num_segmenter_steps
        ),
    }
    return optax.partition(parts, _parts)


def _parts(params: Any) -> dict[str, str]:
    return {name: "first" if name == segmenter.NAME else "then" for name in params}


def _rate(learning_rate: float, schedule: str, warmup_steps: int, num_steps: int) -> optax.Schedule:
    left = max(num_steps - warmup_steps, 1)
    main = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, left, alpha=0.01),
    }[schedule]
    if not warmup_steps:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup_steps), main], [warmup_steps])
