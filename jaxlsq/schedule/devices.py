"""How much work fits where: the width of a pool, the cores of a machine."""

import os

import jax
import numpy as np

__all__ = ["choose_width", "usable_cores"]


def choose_width(n, m, data, dtype):
    """Lanes of a pool.

    On a CPU as many as a core's cache holds of residual, Jacobian and data, and between 32,
    below which each kernel's start is what costs, and 256; on a GPU many more.

    Parameters
    ----------
    n, m : int
        Parameters and residuals of a problem.
    data : pytree
        Shapes and types of one problem's data.
    dtype : dtype
        Of the computation.
    """
    data_bytes = sum(int(np.prod(v.shape)) * v.dtype.itemsize for v in jax.tree.leaves(data))
    lane_bytes = (n + 1) * m * np.dtype(dtype).itemsize + data_bytes
    on_cpu = jax.default_backend() == "cpu"
    budget_bytes, least, most = (7 << 18, 32, 256) if on_cpu else (1 << 30, 1 << 10, 1 << 17)
    width = int(np.clip(budget_bytes // max(lane_bytes, 1), least, most))
    return width - width % 32


def usable_cores():
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
