"""The sampler of the spatial transformer and its implementations by device."""
