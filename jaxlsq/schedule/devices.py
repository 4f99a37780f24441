"""How much work fits where: the width of a pool, the cores of a machine."""

import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlsq.problem.types import PyTree

__all__ = ["checked_devices", "choose_width", "quota", "usable_cores", "workers_of"]


def choose_width(n: int, m: int, data: PyTree, dtype: Any) -> int:
    """Lanes of a pool.

    On a CPU as many as a core's cache holds of residual, Jacobian and data, and between 32,
    below which each kernel's start is what costs, and 384; on a GPU many more.

    Parameters
    ----------
    n, m : int
        Parameters and residuals of a problem.
    data : pytree
        Shapes and types of one problem's data.
    dtype : dtype
        Of the computation.
    """
    data_bytes = sum(math.prod(v.shape) * v.dtype.itemsize for v in jax.tree.leaves(data))
    lane_bytes = (n + 1) * m * np.dtype(dtype).itemsize + data_bytes
    on_cpu = jax.default_backend() == "cpu"
    budget_bytes, least, most = (7 << 18, 32, 384) if on_cpu else (1 << 30, 1 << 10, 1 << 17)
    width = int(np.clip(budget_bytes // max(lane_bytes, 1), least, most))
    return width - width % 32


def checked_devices(devices: Any) -> tuple[Any, ...]:
    """Devices of this process, from None, 'all' or some of JAX's.

    Raises
    ------
    ValueError, TypeError
        For none, for one that is another process', and for what is no device.
    """
    if devices is None:
        return ()
    if isinstance(devices, str):
        if devices != "all":
            raise ValueError(f"devices must be 'all', None or some of JAX's, got {devices!r}.")
        return tuple(jax.local_devices())
    devices = tuple(devices) if isinstance(devices, (list, tuple, np.ndarray)) else (devices,)
    if not devices:
        raise ValueError("devices is empty; pass None for JAX's default device.")
    for device in devices:
        if not isinstance(device, jax.Device):
            raise TypeError(f"devices must be some of jax.local_devices(), got {device!r}.")
        if device.process_index != jax.process_index():
            raise ValueError(
                f"devices has {device}, which is another process'; each fits data of its own on "
                "its jax.local_devices()."
            )
    if len({device.platform for device in devices}) > 1:
        raise ValueError(f"devices must be of one platform, got {devices}.")
    return devices


def workers_of(devices: tuple[Any, ...]) -> int:
    """How many threads work on some devices, or on the default one for none."""
    platform = devices[0].platform if devices else jax.default_backend()
    if platform == "cpu":
        return max(usable_cores(), len(devices))
    return 2 * max(len(devices), 1)  # while one waits for its device, the other has read a block


def usable_cores() -> int:
    """Cores that this process may use: by its affinity, and by the quota of its container."""
    process_cpu_count = getattr(os, "process_cpu_count", None)  # since Python 3.13
    if process_cpu_count is not None:
        cores = process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    return int(max(1, min(cores or 1, quota())))


@cache
def quota(root: str | Path = "/") -> float:
    """Cores' worth of time that Linux' control groups grant, a whole number, or inf.

    Of version 2 (``cpu.max``) and 1 (``cpu.cfs_quota_us``), of the group and those above it.

    Parameters
    ----------
    root : path
        Of the file system.
    """
    root, limit = Path(root), math.inf
    for line in _words(root / "proc/self/cgroup", "\n"):
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        path = top / group.strip("/")
        for folder in (path, *path.parents):
            limit = min(limit, _granted(folder))
            if folder == top:
                break
    return limit if limit == math.inf else max(1, math.ceil(limit))


def _granted(folder):
    """Cores' worth of time of one group."""
    values = _words(folder / "cpu.max") or [
        *_words(folder / "cpu.cfs_quota_us"),
        *_words(folder / "cpu.cfs_period_us"),
    ]
    if len(values) != 2 or not all(value.isdecimal() for value in values):
        return math.inf  # "max", and -1, are none
    return int(values[0]) / max(int(values[1]), 1)


def _words(path, separator=None):
    """What a file holds; nothing where there is none."""
    try:
        return path.read_text().strip().split(separator)
    except OSError:
        return []
