"""How a command sets JAX up: compiled programs are cached on the disk, and every core can be a device."""

import os
from typing import Any

from fedmeta._files import cache_folder

LARGEST = 2 << 30
"""Bytes of compiled programs that are kept; the least recently used are dropped first."""


def start() -> None:
    """Set JAX up for a command, but for what the user has set or a computation has fixed already."""
    import jax

    config: Any = jax.config
    folder = cache_folder("programs")
    if config.jax_compilation_cache_dir is None and folder is not None:
        config.update("jax_compilation_cache_dir", str(folder))
        config.update("jax_compilation_cache_max_size", LARGEST)
        config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if config.jax_num_cpu_devices < 1:
        try:
            config.update("jax_num_cpu_devices", cores())
        except RuntimeError:
            # JAX computes already, with the devices that it has.
            return


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
