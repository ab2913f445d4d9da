"""What this machine can do at most, measured: floating-point operations a second, and bytes a second."""

import time

import jax
import jax.numpy as jnp


def measure() -> dict[str, float]:
    """FLOP/s of a large float32 matrix product and bytes/s of a copy that does not fit in the caches."""
    size = 4_096 if jax.default_backend() == "cpu" else 16_384
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    length = 2**27  # 512 MiB
    b = jnp.ones(length)
    add = jax.jit(lambda b: b + 1)
    return {
        "flops_per_second": 2 * size**3 / _seconds(lambda: product(a)),
        "bytes_per_second": 2 * 4 * length / _seconds(lambda: add(b)),
    }


def _seconds(call) -> float:
    jax.block_until_ready(call())
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)
