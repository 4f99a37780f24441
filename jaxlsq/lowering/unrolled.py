"""Short loops and branches of a jaxpr written out, so that what runs through them is seen."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.tracing.jaxprs import called, eqn_results, holds_loop, interpret
from jaxlsq.tracing.parts import opened, scan_turns
from jaxlsq.tracing.types import Equation, Jaxpr

__all__ = ["unrolled"]

# Equations of all turns of a loop together, up to which it is written out.
MOST_EQUATIONS = 2000


def unrolled(jaxpr: Jaxpr) -> Jaxpr:
    """The same program without short scans, and without branches of which all can be computed.

    It is open, and without constants.

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
    if name == "cond" and not holds_loop(eqn):
        return _cond(params, arguments)
    return eqn_results(eqn, arguments)


def _scan(params, arguments):
    def turn(given):
        return _run(params["jaxpr"], given)

    carry, columns = scan_turns(params, arguments, turn, _row)
    kinds = [v.aval for v in opened(params["jaxpr"])[0].outvars[len(carry) :]]
    return carry + [
        jnp.stack(rows) if rows else jnp.zeros((0, *kind.shape), kind.dtype)
        for rows, kind in zip(columns, kinds, strict=True)
    ]


def _row(x, k):
    return lax.index_in_dim(x, k, 0, keepdims=False)


def _cond(params, arguments):
    which, *operands = arguments
    results = [_run(branch, operands) for branch in params["branches"]]
    if which.dtype != bool:
        which = jnp.clip(which, 0, len(results) - 1)
    return [lax.select_n(which, *cases) for cases in zip(*results, strict=True)]
