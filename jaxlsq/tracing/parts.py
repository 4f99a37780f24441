"""The programs that equations of a jaxpr hold: those of calls, and of loops."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxlsq.tracing.types import Jaxpr

__all__ = ["CALLS", "REMATERIALIZED", "RULES", "opened", "scan_counts", "scan_turns"]

# Primitives that only call a jaxpr, by where they have it; those that compute it again for
# derivatives; and those with derivatives of their own.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
REMATERIALIZED = {"remat2": "jaxpr", "checkpoint": "jaxpr"}
RULES = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def opened(jaxpr: Jaxpr) -> tuple[Jaxpr, list[Any]]:
    """A jaxpr and its constants, whether it is closed over them or has none."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many of a scan's arguments are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # since JAX 0.11
    return len(consts), len(carry)


def scan_turns(
    params: dict[str, Any],
    arguments: Sequence[Any],
    turn: Callable[[list[Any]], Sequence[Any]],
    row: Callable[[Any, int], Any],
) -> tuple[list[Any], list[list[Any]]]:
    """A scan, one turn after the other.

    Parameters
    ----------
    params : dict
        Of the equation.
    arguments : sequence
        Its operands: constants, what is carried, and what is scanned over.
    turn : callable
        ``turn(arguments) -> results`` of the program inside.
    row : callable
        ``row(x, k)``, number k of the rows of what is scanned over.

    Returns
    -------
    carry : list
        At the end.
    columns : list of lists
        Of each further result its rows.
    """
    consts, carried = scan_counts(params)
    of_all, xs = arguments[:consts], arguments[consts + carried :]
    carry, rows = list(arguments[consts : consts + carried]), []
    order = range(params["length"])
    for k in reversed(order) if params["reverse"] else order:
        out = turn([*of_all, *carry, *(row(x, k) for x in xs)])
        carry = list(out[:carried])
        rows.append(out[carried:])
    rows = rows[::-1] if params["reverse"] else rows
    others = len(opened(params["jaxpr"])[0].outvars) - carried
    return carry, [[one[j] for one in rows] for j in range(others)]
