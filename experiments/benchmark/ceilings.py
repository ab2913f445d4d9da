"""What this machine can do at most, measured: floating-point operations a second, and bytes a second."""

import time

import jax
import jax.numpy as jnp


def measure() -> dict[str, float | str]:
    """The device, FLOP/s of a large float32 matrix product, and bytes/s of reading and writing a large array."""
    size = 4_096 if jax.default_backend() == "cpu" else 16_384
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    length = 2**27  # 512 MiB
    b = jnp.ones(length)
    add = jax.jit(lambda b: b + 1, donate_argnums=0)  # in place: fresh pages of memory would cost more than the traffic

    def add_in_place():
        nonlocal b
        b = add(b)
        return b

    return {
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "flops_per_second": 2 * size**3 / _seconds(lambda: product(a)),
        "bytes_per_second": 2 * 4 * length / _seconds(add_in_place),
    }


def _seconds(call) -> float:
    jax.block_until_ready(call())
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)
