"""What the machine can do: the rate of float32 matrix products, and the bandwidth of its memory, on all cores.

    .venv/bin/python benchmarks/rates.py

prints both as JSON. A floor is counted operations over the one, or bytes over the other.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

SIDES = (1024, 2048, 4096)
NUMBERS = 1 << 27
"""Half a gigabyte of float32, far more than a cache holds."""
REPEATS = 4


def main() -> None:
    """Measure and print."""
    products = {side: _product(side) for side in SIDES}
    print(json.dumps({"flops": max(products.values()), "products": products, "bytes": _bandwidth()}))


def _product(side: int) -> float:
    """Return the floating-point operations in a second of a product of square matrices."""
    left, right = (jax.random.normal(jax.random.key(seed), (side, side)) for seed in (0, 1))
    product = jax.jit(jnp.matmul)
    return 2 * side**3 / _median(lambda: product(left, right))


def _bandwidth() -> float:
    """Return the bytes in a second that are read and written by a product with a number, in place."""
    scale = jax.jit(lambda x: x * 1.0001, donate_argnums=0)
    held = [jnp.ones(NUMBERS, jnp.float32)]

    def step() -> Any:
        held.append(scale(held.pop()))
        return held[0]

    return 2 * 4 * NUMBERS / _median(step)


def _median(function: Callable[[], Any]) -> float:
    jax.block_until_ready(function())
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
