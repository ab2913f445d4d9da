"""Optimisation on the pairs at hand."""

from air_jax.optimize.control_grid import refine

__all__ = ["refine"]
