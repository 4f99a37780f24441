"""Options for XLA's compiler."""

import jax

__all__ = ["COMPILER_OPTIONS"]

# The fit is many small kernels, and what XLA:CPU of JAX 0.10 spends on each doubles the time
# of the first fit (1.6 s against 0.8 s, with fits as fast).  Later ones are fast without.
COMPILER_OPTIONS = (
    {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__[:2] == (0, 10) else None
)
