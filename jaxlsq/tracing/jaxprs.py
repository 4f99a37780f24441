"""Jaxprs interpreted: their equations on values of any kind, their calls, what depends on what."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax.extend.core import Literal

from jaxlsq.tracing.callbacks import exact_callback, needs_care
from jaxlsq.tracing.parts import CALLS, REMATERIALIZED, RULES, opened, scan_counts
from jaxlsq.tracing.types import Equation, Jaxpr
from jaxlsq.tracing.varying import is_cast, results_that_vary, varies, without_mesh

__all__ = [
    "called",
    "depends",
    "eqn_results",
    "equations",
    "holds_loop",
    "inner_jaxprs",
    "interpret",
    "without_calls",
]

# Calls that are followed into.
_FOLLOWED = CALLS | REMATERIALIZED | RULES


def inner_jaxprs(eqn: Equation) -> Iterator[Any]:
    """Jaxprs among the parameters of an equation, open or closed."""
    for value in eqn.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(one, "eqns") or hasattr(one, "jaxpr"):
                yield one


def equations(jaxpr: Any) -> Iterator[Equation]:
    """All equations of a jaxpr, open or closed, at any depth."""
    for eqn in opened(jaxpr)[0].eqns:
        yield eqn
        for inner in inner_jaxprs(eqn):
            yield from equations(inner)


def holds_loop(eqn: Equation) -> bool:
    """Whether a ``while`` is inside, which may have no end for numbers that do not lead to it."""
    return any(e.primitive.name == "while" for one in inner_jaxprs(eqn) for e in equations(one))


def eqn_results(eqn: Equation, arguments: Sequence[Any]) -> Sequence[Any]:
    """What an equation gives for other arguments."""
    if is_cast(eqn):
        return arguments
    if varies(eqn, arguments):
        return results_that_vary(eqn, arguments, _written_out, _bound)
    return _bound(eqn, arguments)


def _bound(eqn, arguments):
    if needs_care(eqn):
        return exact_callback(eqn, arguments)
    params = eqn.primitive.get_bind_params(eqn.params)
    results = eqn.primitive.bind(*arguments, **params)
    return results if eqn.primitive.multiple_results else [results]


def _literal_value(atom, eqn_name):
    """The number that a literal is."""
    return without_mesh(atom.val)


def interpret(
    jaxpr: Jaxpr,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    equation: Callable[..., Any] = eqn_results,
    literal: Callable[..., Any] = _literal_value,
) -> list[Any]:
    """The outputs of a jaxpr, equation by equation, on values of any kind.

    Parameters
    ----------
    jaxpr : Jaxpr
        Open.
    consts, inputs : sequences
        Values of its constants and inputs: arrays, or what `equation` takes in their place.
    equation : callable
        ``equation(eqn, arguments)`` is a list of an equation's results.
    literal : callable
        ``literal(atom, eqn_name)`` stands for a literal, in the equation of this name, or for
        'return' among the outputs.

    Returns
    -------
    list
    """
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def value(atom, name):
        return literal(atom, name) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        arguments = [value(atom, eqn.primitive.name) for atom in eqn.invars]
        values.update(zip(eqn.outvars, equation(eqn, arguments), strict=True))
    return [value(atom, "return") for atom in jaxpr.outvars]


def called(eqn: Equation) -> tuple[Jaxpr, list[Any]] | None:
    """The jaxpr that an equation only calls, and its constants; None for any other equation."""
    name = eqn.primitive.name
    return opened(eqn.params[_FOLLOWED[name]]) if name in _FOLLOWED else None


def without_calls(eqn: Equation, arguments: Sequence[Any]) -> Sequence[Any]:
    """`eqn_results` with calls written out: for `interpret`, to make a jaxpr without any."""
    inner = called(eqn)
    return interpret(*inner, arguments, without_calls) if inner else eqn_results(eqn, arguments)


def _written_out(jaxpr, consts, inputs):
    return interpret(jaxpr, consts, inputs, without_calls)


def depends(jaxpr: Jaxpr, inputs: Sequence[bool]) -> list[bool]:
    """Whether each output depends on an input that varies.

    Parameters
    ----------
    jaxpr : Jaxpr
    inputs : sequence of bool
        Which inputs vary.

    Returns
    -------
    list of bool
    """

    def equation(eqn, moving):
        if eqn.primitive.name == "scan":
            return _depends_in_scan(eqn, moving)
        inner = called(eqn)
        return depends(inner[0], moving) if inner else [any(moving)] * len(eqn.outvars)

    still = [False] * len(jaxpr.constvars)
    return interpret(jaxpr, still, inputs, equation, lambda *_: False)


def _depends_in_scan(eqn, moving):
    """`depends` of a scan, whose carry is made of what it was in the turn before."""
    body = opened(eqn.params["jaxpr"])[0]
    first, count = scan_counts(eqn.params)
    moving = list(moving)
    while True:
        out = depends(body, moving)
        carry = [a or b for a, b in zip(moving[first : first + count], out[:count], strict=True)]
        if carry == moving[first : first + count]:
            return out
        moving[first : first + count] = carry
