"""The optimiser that a config describes: Adam, with the learning rate over the steps and gradients clipped."""

import optax

SCHEDULES = ("constant", "cosine")


def make_optimizer(
    learning_rate: float, schedule: str, warmup_steps: int, num_train_steps: int, clip_norm: float = 0.0
) -> optax.GradientTransformation:
    """Adam (paper section 3.1).

    Args:
      learning_rate: the highest.
      schedule: `constant`, or `cosine` for a fall to 1 % of it at the last step.
      warmup_steps: steps over which it rises linearly from 0 first.
      num_train_steps: all steps, those of the warm-up among them.
      clip_norm: gradients whose norm, over all parameters, is larger are scaled down to it; 0 leaves all as they are.

    Raises:
      KeyError: an unknown schedule.
    """
    left = max(num_train_steps - warmup_steps, 1)
    main = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, left, alpha=0.01),
    }[schedule]
    if warmup_steps:
        warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
        main = optax.join_schedules([warmup, main], [warmup_steps])
    if not clip_norm:
        return optax.adam(main)
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adam(main))
