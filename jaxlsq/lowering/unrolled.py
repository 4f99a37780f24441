"""Short loops and branches of a jaxpr written out, so that what runs through them is seen."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.tracing.jaxprs import called, eqn_results, interpret
from jaxlsq.tracing.parts import opened, scan_counts
from jaxlsq.tracing.types import Equation, Jaxpr

__all__ = ["unrolled"]

# Equations of all turns of a loop together, up to which it is written out.
MOST_EQUATIONS = 2000


def unrolled(jaxpr: Jaxpr) -> Jaxpr:
    """The same program without short scans and without branches; open, and without constants.

    Parameters
    ----------
    jaxpr : Jaxpr
        Open and without constants.
    """
    if not any(eqn.primitive.name in ("scan", "cond") for eqn in jaxpr.eqns):
        return jaxpr
    closed = jax.make_jaxpr(lambda *inputs: interpret(jaxpr, (), inputs, _results))(
        *(v.aval for v in jaxpr.invars)
    )
    return closed.jaxpr if not closed.consts else jaxpr


def _run(closed, arguments):
    inner, consts = opened(closed)
    return interpret(inner, consts, arguments, _results)


def _results(eqn: Equation, arguments: Sequence[Any]) -> Sequence[Any]:
    inner = called(eqn)
    if inner:
        return interpret(*inner, arguments, _results)
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        size = params["length"] * len(opened(params["jaxpr"])[0].eqns)
        if size <= MOST_EQUATIONS:
            return _scan(params, arguments)
    if name == "cond":
        return _cond(params, arguments)
    return eqn_results(eqn, arguments)


def _scan(params, arguments):
    consts, carried = scan_counts(params)
    of_all, carry = arguments[:consts], list(arguments[consts : consts + carried])
    xs, rows = arguments[consts + carried :], []
    order = range(params["length"])
    for k in order[::-1] if params["reverse"] else order:
        here = [lax.index_in_dim(x, k, 0, keepdims=False) for x in xs]
        out = _run(params["jaxpr"], [*of_all, *carry, *here])
        carry = out[:carried]
        rows.append(out[carried:])
    rows = rows[::-1] if params["reverse"] else rows
    if not rows:
        shapes = [v.aval for v in opened(params["jaxpr"])[0].outvars[carried:]]
        return carry + [jnp.zeros((0, *s.shape), s.dtype) for s in shapes]
    return carry + [jnp.stack(column) for column in zip(*rows, strict=True)]


def _cond(params, arguments):
    which, *operands = arguments
    results = [_run(branch, operands) for branch in params["branches"]]
    if which.dtype != bool:
        which = jnp.clip(which, 0, len(results) - 1)
    return [lax.select_n(which, *cases) for cases in zip(*results, strict=True)]
