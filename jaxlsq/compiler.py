"""Options for XLA's compiler."""

import jax

__all__ = ["COMPILER_OPTIONS", "POOL_OPTIONS"]

# The fit is many small kernels, and what XLA:CPU of JAX 0.10 spends on each doubles the time
# of the first fit (1.6 s against 0.8 s, with fits as fast; pools are even faster without).
# Later ones are fast without.
_SIMPLE_KERNELS = (
    {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__[:2] == (0, 10) else {}
)
COMPILER_OPTIONS = _SIMPLE_KERNELS or None

# A thread works a whole pool: kernels as small as its are not worth sharing.
POOL_OPTIONS = {"compiler_options": _SIMPLE_KERNELS | {"xla_cpu_multi_thread_eigen": False}}
