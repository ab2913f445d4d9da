"""The machine that a measurement was made on: what it is, and what it can do at most."""

import datetime
import importlib.metadata
import importlib.util
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from air_jax.runtime.parallel import num_cores


def describe() -> dict:
    """What a reader needs to know about where the figures come from."""
    versions = {}
    for package in ("jax", "flax", "optax", "torch"):
        if importlib.util.find_spec(package):
            versions[package] = importlib.metadata.version(package)
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": names[0] if names else platform.processor(),
        "cores": num_cores(),
        "python": platform.python_version(),
        **versions,
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def ceilings() -> dict[str, float | str]:
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
