"""The optimiser that a config describes: Adam, with the learning rate over the steps."""

import optax

SCHEDULES = ("constant", "cosine")


def make_optimizer(
    learning_rate: float, schedule: str, warmup_steps: int, num_train_steps: int
) -> optax.GradientTransformation:
    """Adam (paper section 3.1).

    Args:
      learning_rate: the highest.
      schedule: `constant`, or `cosine` for a fall to 1 % of it at the last step.
      warmup_steps: steps over which it rises linearly from 0 first.
      num_train_steps: all steps, those of the warm-up among them.

    Raises:
      KeyError: an unknown schedule.
    """
    left = max(num_train_steps - warmup_steps, 1)
    main = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, left, alpha=0.01),
    }[schedule]
    if not warmup_steps:
        return optax.adam(main)
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.adam(optax.join_schedules([warmup, main], [warmup_steps]))
