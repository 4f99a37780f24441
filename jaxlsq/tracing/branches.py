"""Branches as selections, so that what is linear in a tangent can be transposed under `vmap`.

`vmap` over the index of a branch gives to each branch its operands where it is chosen, and
elsewhere the same without derivatives (``stop_gradient``), so that no NaN of a branch that is not
chosen gets into a derivative.  Operands that are tangents themselves, those of a derivative rule,
are not to be stopped: JAX can't transpose that.  Written out before the rule takes tangents, the
selection is of values, and tangents go through it like through any other.
"""

from collections.abc import Sequence
from typing import Any

from jax import lax
from jax.core import Tracer

from jaxlsq.tracing.jaxprs import eqn_results, equations, holds_loop, inner_jaxprs, interpret
from jaxlsq.tracing.parts import CALLS, REMATERIALIZED, opened, scan_counts
from jaxlsq.tracing.types import Equation
from jaxlsq.tracing.varying import alike, axes_of

__all__ = ["selecting"]

_FOLLOWED = CALLS | REMATERIALIZED


def selecting(eqn: Equation, arguments: Sequence[Any]) -> Sequence[Any]:
    """An equation's results, all branches of a `cond` computed: for `interpret`.

    Parameters
    ----------
    eqn : Equation
        Calls and scans are followed into where they have branches inside.
    arguments : sequence

    Returns
    -------
    list
    """
    name = eqn.primitive.name
    if not _branches(eqn):
        return eqn_results(eqn, arguments)
    if name in _FOLLOWED:
        return _ran(eqn.params[_FOLLOWED[name]], arguments)
    if _is_choice(eqn):
        return _selected(eqn.params["branches"], *alike(list(arguments)))
    if name == "scan":
        return _scanned(eqn.params, alike(list(arguments)))
    return eqn_results(eqn, arguments)


def _branches(eqn):
    """Whether there is a choice in an equation that `vmap` can be over."""
    inside = (e for inner in inner_jaxprs(eqn) for e in equations(inner))
    return any(map(_is_choice, (eqn, *inside)))


def _is_choice(eqn):
    """Not of a loop, which may have no end where it is not chosen; it has no transpose anyhow."""
    is_cond = eqn.primitive.name == "cond" and "branches_platforms" not in eqn.params
    return is_cond and not holds_loop(eqn)


def _ran(closed, arguments):
    return interpret(*opened(closed), arguments, selecting)


def _selected(branches, index, *operands):
    if not isinstance(index, Tracer):  # known already
        return _ran(branches[int(index)], operands)
    axes, results = axes_of(operands), []
    for k, branch in enumerate(branches):
        chosen = lax.eq(index, index.dtype.type(k))
        own = [lax.select(chosen, v, lax.stop_gradient(v)) for v in operands]
        results.append(alike(_ran(branch, own), axes))
    return [lax.select_n(index, *values) for values in zip(*results, strict=True)]


def _scanned(params, arguments):
    count, carried = scan_counts(params)
    of_all, carry = arguments[:count], arguments[count : count + carried]
    axes = axes_of(arguments)

    def body(carry, xs):
        out = alike(_ran(params["jaxpr"], [*of_all, *carry, *xs]), axes)
        return out[:carried], out[carried:]

    how = {name: params[name] for name in ("length", "reverse", "unroll")}
    carry, rows = lax.scan(body, carry, arguments[count + carried :], **how)
    return [*carry, *rows]
