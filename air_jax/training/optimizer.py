"""The optimizer that a config describes: Adam with a schedule, gradient clipping and frozen parts."""

from typing import Any

import optax

from air_jax.workdir.model_section import SEGMENTER

SCHEDULES = ("constant", "cosine")


def make_optimizer(
    learning_rate: float,
    schedule: str,
    warmup_steps: int,
    num_train_steps: int,
    clip_norm: float = 0.0,
    *,
    freeze_segmenter: bool = False,
) -> optax.GradientTransformation:
    """Builds Adam (paper section 3.1).

    Args:
      learning_rate: the highest.
      schedule: "constant", or "cosine" for a fall to 1 % of it at the last step.
      warmup_steps: steps over which it first rises linearly from 0.
      num_train_steps: all steps, warm-up included.
      clip_norm: gradients whose norm over all parameters is larger are scaled down to it; 0 clips none.
      freeze_segmenter: True if the model has a segmenter, whose parameters stay as they are.

    Raises:
      KeyError: an unknown schedule.
    """
    rate = rate_schedule(learning_rate, schedule, warmup_steps, num_train_steps)
    adam = optax.adam(rate)
    if clip_norm:
        adam = optax.chain(optax.clip_by_global_norm(clip_norm), adam)
    if not freeze_segmenter:
        return adam
    return optax.partition({"trained": adam, "frozen": optax.set_to_zero()}, _parts)


def _parts(params: Any) -> dict[str, str]:
    return {name: "frozen" if name == SEGMENTER else "trained" for name in params}


def rate_schedule(learning_rate: float, schedule: str, warmup_steps: int, num_train_steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the number of steps before; arguments as for `make_optimizer`."""
    left = max(num_train_steps - warmup_steps, 1)
    main = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, left, alpha=0.01),
    }[schedule]
    if not warmup_steps:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup_steps), main], [warmup_steps])
