"""An index past the parameters, which JAX takes for that of the last one: found in the trace.

An index that is in range becomes a slice; a constant one that is not stays a start that is
computed, from constants alone.
"""

import jax
import numpy as np
from jax.extend.core import Literal

from jaxlsq.tracing.jaxprs import CALLS, opened

__all__ = ["check_indices"]

# What JAX does to a constant index, in NumPy.
_FOLDED = {
    "lt": lambda eqn, a, b: a < b,
    "add": lambda eqn, a, b: a + b,
    "select_n": lambda eqn, which, a, b: np.where(which, b, a),
    "convert_element_type": lambda eqn, a: a.astype(eqn.params["new_dtype"]),
    "broadcast_in_dim": lambda eqn, a: _broadcast(a, eqn.params),
}

# What leaves parameters what they are, but for shape and type.
_SAME = ("broadcast_in_dim", "convert_element_type", "copy", "reshape", "slice", "squeeze")
_JOINED = ("concatenate", "stack", "unstack")

_MOST = 10_000  # indices that are looked at


def _broadcast(a, params):
    shape, axes = params["shape"], params["broadcast_dimensions"]
    ones = [shape[k] if k in axes else 1 for k in range(len(shape))]
    return np.broadcast_to(a.reshape(ones), shape)


def check_indices(jaxpr, consts, name="func"):
    """Raise IndexError for a constant index past the parameters.

    Parameters
    ----------
    jaxpr : Jaxpr
        Of a function of the parameters alone, a vector or scalars.
    consts : list
        Its constants.
    name : str
        What the user calls the function.
    """
    n = sum(int(np.prod(v.aval.shape)) for v in jaxpr.invars)
    _Walk(n, name).walk(jaxpr, consts, [True] * len(jaxpr.invars), {})


class _Walk:
    def __init__(self, n, name):
        self.n, self.name = n, name

    def walk(self, jaxpr, consts, are_params, known):
        known = dict(known)
        known.update(zip(jaxpr.constvars, consts, strict=True))
        params = {v for v, is_one in zip(jaxpr.invars, are_params, strict=True) if is_one}

        def is_params(atom):
            return not isinstance(atom, Literal) and atom in params

        def constant(atom):
            value = atom.val if isinstance(atom, Literal) else known.get(atom)
            if value is None or isinstance(value, jax.core.Tracer):
                return None
            dtype = getattr(value, "dtype", np.dtype(type(value)))
            few = np.size(value) <= _MOST and getattr(dtype, "kind", "O") in "iub"
            return np.asarray(value) if few else None

        for eqn in jaxpr.eqns:
            name, (first, *others) = eqn.primitive.name, eqn.invars or (None,)
            if name in CALLS:
                inner, inner_consts = opened(eqn.params[CALLS[name]])
                given = zip(inner.invars, map(constant, eqn.invars), strict=True)
                given = {v: value for v, value in given if value is not None}
                self.walk(inner, inner_consts, [is_params(a) for a in eqn.invars], given)
            elif name in ("dynamic_slice", "gather") and is_params(first) and first.aval.ndim == 1:
                self._check(first, constant(others[0]), eqn.params["slice_sizes"][0])
            elif name in _FOLDED and all(constant(a) is not None for a in eqn.invars):
                known[eqn.outvars[0]] = _FOLDED[name](eqn, *map(constant, eqn.invars))
            if name in _SAME + _JOINED and all(map(is_params, eqn.invars)):
                params.update(eqn.outvars)

    def _check(self, vector, index, size):
        length = vector.aval.shape[0]
        if index is None or length != self.n:
            return
        outside = index[(index < 0) | (index > length - size)]
        if outside.size:
            first = int(outside.flat[0])
            raise IndexError(
                f"{self.name} reads parameter {first - length if first < 0 else first} of "
                f"{length}: indices are 0 to {length - 1}."
            )
