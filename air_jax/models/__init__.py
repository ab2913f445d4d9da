"""Registration models: Flax modules with `__call__(fixed, moving, *, deterministic=True) -> (displacement, out)`."""

from air_jax.models.air import AiR

MODELS = {"air": AiR}

__all__ = ["MODELS", "AiR"]
