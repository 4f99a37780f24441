"""Blocks of problems: how large they are, how they are read, padded and put in their place."""

import time
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.sources import Source, check_open

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_PROBLEMS",
    "LEAST_PROBLEMS",
    "LIGHT_BYTES",
    "argument_of",
    "padded",
    "power_of_two_above",
    "power_of_two_below",
    "put",
    "read_source",
]

# A block: enough problems to keep a pool full, and few enough bytes that several fit anywhere.
BLOCK_PROBLEMS = 8192
BLOCK_BYTES = 1 << 25
LEAST_PROBLEMS = 1024
# Of small problems up to four times as many, while they are no more than these bytes: what a block
# costs beside its fits is half a millisecond.
LIGHT_BYTES = 1 << 20
LONGEST_PAUSE_S = 0.01
# What the caller calls the sources that have another name here.
ARGUMENTS = {"y": "ydata", "whitening": "sigma"}


def put(out: NDArray[Any], first: int, last: int, values: jax.Array) -> None:
    """Put a block's values in their place."""
    out[first:last] = np.asarray(_computed(values))[: last - first]


def _computed(values):
    """A JAX array that is ready; Ctrl-C ends the wait, which NumPy's own can't be."""
    pause_s = 1e-4
    while not values.is_ready():
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    return values


def argument_of(key: str) -> str:
    """What the caller calls a source."""
    return ARGUMENTS.get(key, key.split(".")[0])


def read_source(key: str, source: Source, first: int, last: int) -> NDArray[Any]:
    """Some problems of a source; what goes wrong says where."""
    name = argument_of(key)
    check_open(source.array, name)
    try:
        return source.read(first, last)
    except Exception as error:  # whatever a source raises reaches the caller
        error.add_note(f"jaxlsq was reading {name}.")
        raise


def padded(array: NDArray[Any], size: int) -> NDArray[Any]:
    """An array with its last row repeated up to `size` rows, if it has fewer."""
    missing = max(size - array.shape[0], 0)
    return np.concatenate([array, array[-1:].repeat(missing, axis=0)]) if missing else array


def power_of_two_above(k: int) -> int:
    """The smallest one that is not below k."""
    return 1 << (int(k) - 1).bit_length()


def power_of_two_below(k: int) -> int:
    """The largest one that is not above k."""
    return 1 << (int(k).bit_length() - 1)
