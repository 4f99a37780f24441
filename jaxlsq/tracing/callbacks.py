"""Callbacks of float64 programs: they get what their trace said, whatever thread they run in.

XLA calls them from threads of its own, where x64 is off unless it is so for the whole process, and
JAX would round what it hands on.  Here numbers of 64 bits go through as pairs of 32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.tracing.types import Equation

__all__ = ["exact_callback", "needs_care"]


def needs_care(eqn: Equation) -> bool:
    """Whether an equation is a callback with numbers of 64 bits."""
    atoms = (*eqn.invars, *eqn.outvars)
    return eqn.primitive.name == "pure_callback" and any(_is_wide(atom.aval) for atom in atoms)


def exact_callback(eqn: Equation, arguments: Sequence[Any]) -> list[Any]:
    """What the equation gives, with numbers of 64 bits as pairs.

    Parameters
    ----------
    eqn : JaxprEqn
        Of which `needs_care` is true.
    arguments : list of arrays

    Returns
    -------
    list of arrays
    """
    params = dict(eqn.primitive.get_bind_params(eqn.params))
    given = tuple(atom.aval.dtype for atom in eqn.invars)
    wanted = tuple(aval.dtype for aval in params["result_avals"])
    params["result_avals"] = tuple(map(_paired, params["result_avals"]))
    params["callback"] = _Exact(params["callback"], given, wanted)
    pairs = [
        lax.bitcast_convert_type(jnp.asarray(v, atom.aval.dtype), jnp.uint32)
        if _is_wide(atom.aval)
        else v
        for v, atom in zip(arguments, eqn.invars, strict=True)
    ]
    results = eqn.primitive.bind(*pairs, **params)
    return [
        lax.bitcast_convert_type(v, dtype) if dtype.itemsize == 8 else v
        for v, dtype in zip(results, wanted, strict=True)
    ]


def _is_wide(aval):
    return aval.dtype.kind in "fiu" and aval.dtype.itemsize == 8


def _paired(aval):
    return (
        aval.update(shape=(*aval.shape, 2), dtype=np.dtype(np.uint32)) if _is_wide(aval) else aval
    )


@dataclass(frozen=True)
class _Exact:
    """A callback that takes and gives pairs."""

    callback: Callable[..., Any]
    given: tuple[np.dtype[Any], ...]
    wanted: tuple[np.dtype[Any], ...]

    def __call__(self, *pairs):
        with jax.enable_x64(True):
            arguments = [
                jax.device_put(np.ascontiguousarray(v).view(dtype)[..., 0])
                if dtype.itemsize == 8
                else v
                for v, dtype in zip(pairs, self.given, strict=True)
            ]
            results = [np.asarray(v) for v in jax.tree.leaves(self.callback(*arguments))]
        return tuple(
            np.ascontiguousarray(v)[..., None].view(np.uint32)
            if v.dtype.itemsize == dtype.itemsize == 8 and v.dtype == dtype
            else v
            for v, dtype in zip(results, self.wanted, strict=True)
        )
