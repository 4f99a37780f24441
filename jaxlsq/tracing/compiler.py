"""Options for XLA's compiler."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["COMPILER_OPTIONS", "POOL_OPTIONS", "QUICK_OPTIONS", "in_many_kernels"]

# The fit is many small kernels, and what XLA:CPU of JAX 0.10 spends on each doubles the time
# of the first fit (1.6 s against 0.8 s, with fits as fast; pools are even faster without).
# Later ones are fast without.
_SIMPLE_KERNELS = (
    {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__[:2] == (0, 10) else {}
)
COMPILER_OPTIONS = _SIMPLE_KERNELS or None

# For what runs a few times on a data set or some: compiles in a sixth of the time, and what ran in
# one millisecond runs in three.
QUICK_OPTIONS: dict[str, Any] = _SIMPLE_KERNELS | {"xla_backend_optimization_level": 0}

# A thread works a whole pool: kernels as small as its are not worth sharing.
POOL_OPTIONS: dict[str, Any] = {
    "compiler_options": _SIMPLE_KERNELS | {"xla_cpu_multi_thread_eigen": False}
}

# Up to so many parameters a fit as one kernel compiles as fast as in many.
SMALL = 5


def in_many_kernels(x: jax.Array) -> jax.Array:
    """The vector x, as it is; the loop that computes it is compiled kernel by kernel.

    XLA:CPU makes one kernel of a whole loop whose carry has few arrays, unless it finds a scatter
    or the like in it, and what LLVM needs for one kernel grows much faster than the kernel: with
    13 parameters half a minute, and 3 s with this.  The loop of many lanes has scatters anyway.
    """
    if len(x) <= SMALL:
        return x
    order = jnp.arange(len(x), dtype=jnp.int32)
    return jnp.zeros_like(x).at[order].set(x, unique_indices=True, mode="promise_in_bounds")
