"""Equations at one point of a data set, among them loops that each point leaves by itself.

A loop over arrays of points goes on until all points have stopped.  It can be one point's where a
point that has stopped does not change any more: every result of a turn is
``select_n(goes_on, before, after)``, with the points that go on in one of the arrays, which is only
ever narrowed, ``goes_on & ...``; and the loop ends when none of them is left.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Literal

from jaxlsq.lowering.axes import NOWHERE, Place, axes_of, narrowed, operand_places
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.tracing.jaxprs import eqn_results, interpret, without_calls
from jaxlsq.tracing.parts import opened
from jaxlsq.tracing.types import Equation, Jaxpr

__all__ = ["at_one_point", "parts_of_operands", "spread_backwards"]

# Parts of variables that are needed, or that are known.
Parts = Mapping[Any, set[Place]]


def parts_of_operands(eqn: Equation, place: Place) -> list[Place] | None:
    """As `jaxlsq.lowering.axes.operand_places`, of loops too."""
    if eqn.primitive.name != "while" or place == NOWHERE:
        return operand_places(eqn, place)
    loop = _Loop.of(eqn, place)
    return None if loop is None else loop.operands


def spread_backwards(
    jaxpr: Jaxpr, places: dict[Any, set[Place]], some: Container[Any] | None = None
) -> bool:
    """Add the parts that the operands of all equations need, from those of their results.

    Parameters
    ----------
    jaxpr : Jaxpr
    places : dict of sets of Place
        The parts that are needed, by variable, to which others are added.
    some : container, optional
        Variables whose parts are followed; all if not given.

    Returns
    -------
    bool
        Whether all are parts of single points.
    """
    for eqn in reversed(jaxpr.eqns):
        for v in eqn.outvars:
            for place in list(places.get(v, ())) if some is None or v in some else ():
                parts = parts_of_operands(eqn, place)
                if parts is None:
                    return False
                for operand, part in zip(eqn.invars, parts, strict=True):
                    if not isinstance(operand, Literal):
                        places.setdefault(operand, set()).add(part)
    return True


def at_one_point(jaxpr: Jaxpr, places: Parts, values: dict[tuple[Any, Place], Any]) -> None:
    """Compute the parts of variables that are needed.

    Parameters
    ----------
    jaxpr : Jaxpr
        Open, and without constants.
    places : dict of sets of Place
        The parts that are needed, by variable.
    values : dict of arrays
        Those that are known, by variable and place; the others are added.
    """
    for eqn in jaxpr.eqns:
        asked = {place for v in eqn.outvars for place in places.get(v, ())}
        for place in sorted(asked, key=str):
            if any((v, place) in values for v in eqn.outvars):
                continue
            parts = parts_of_operands(eqn, place)
            assert parts is not None  # as was seen before
            operands = [
                v.val if isinstance(v, Literal) else values[v, one]
                for v, one in zip(eqn.invars, parts, strict=True)
            ]
            for v, x in zip(eqn.outvars, _narrow(eqn, place, operands), strict=True):
                if x.shape != narrowed(v.aval.shape, place):
                    raise NotLowered(f"{eqn.primitive.name!r} along the points")
                values[v, place] = x


def _narrow(eqn: Equation, place: Place, operands: Sequence[Any]) -> Sequence[Any]:
    """The results of an equation at one point."""
    if place == NOWHERE:
        return eqn_results(eqn, operands)
    name, shape = eqn.primitive.name, eqn.outvars[0].aval.shape
    part = narrowed(shape, place)
    if name == "while":
        loop = _Loop.of(eqn, place)
        assert loop is not None  # as was seen before
        return loop.run(operands)
    if name == "broadcast_in_dim":
        return [jax.lax.broadcast_in_dim(operands[0], part, eqn.params["broadcast_dimensions"])]
    if name in ("reshape", "squeeze", "expand_dims"):
        return [jnp.reshape(operands[0], part)]
    if name == "slice":
        p = eqn.params
        strides = p["strides"] or (1,) * len(shape)
        ends = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
        index = [
            slice(0, 1) if axis in axes_of(place) else slice(*end) for axis, end in enumerate(ends)
        ]
        return [operands[0][tuple(index)]]
    return eqn_results(eqn, operands)


@dataclass(frozen=True)
class _Loop:
    """A loop that each point leaves by itself.

    Attributes
    ----------
    body : Jaxpr
        Of constants, and of what is carried.
    places : dict
        The parts of its variables that are needed.
    operands : list of Place
        Of the equation.
    consts : (int, int)
        How many of the operands are constants of the condition, and of the body.
    flag : int
        Which of what is carried are the points that go on.
    """

    body: Jaxpr
    places: Parts
    operands: list[Place]
    consts: tuple[int, int]
    flag: int

    @classmethod
    def of(cls, eqn: Equation, place: Place) -> "_Loop | None":
        """That of an equation whose results have their points at a place; None for any other."""
        p, shape = eqn.params, eqn.outvars[0].aval.shape
        flag = _flag(p)
        if flag is None or any(v.aval.shape != shape for v in eqn.outvars):
            return None
        body = _written_out(p["body_jaxpr"])
        if body is None or not _stops(body, p["body_nconsts"], flag):
            return None
        places: dict[Any, set[Place]] = {v: {place} for v in body.outvars}
        for v in body.invars[p["body_nconsts"] :]:
            places.setdefault(v, set()).add(place)
        known = spread_backwards(body, places)
        if not known or any(len(places.get(v, ())) > 1 for v in body.invars):
            return None
        given = [next(iter(places.get(v, ())), NOWHERE) for v in body.invars]
        consts = p["cond_nconsts"], p["body_nconsts"]
        return cls(body, places, [NOWHERE] * consts[0] + given, consts, flag)

    def run(self, operands: Sequence[Any]) -> Sequence[Any]:
        """What it ends with, at one point."""
        of_cond, of_body = self.consts
        fixed, begin = operands[of_cond : of_cond + of_body], operands[of_cond + of_body :]
        parts = self.operands[of_cond:]

        def turn(state):
            given = zip(self.body.invars, parts, [*fixed, *state], strict=True)
            values = {(v, place): x for v, place, x in given}
            at_one_point(self.body, self.places, values)
            return [values[v, parts[-1]] for v in self.body.outvars]

        return lax.while_loop(lambda state: jnp.any(state[self.flag]), turn, list(begin))


def _flag(params):
    """Which array a loop's condition asks for any that is true; None for any other condition."""
    cond = _written_out(params["cond_jaxpr"])
    if cond is None or len(cond.eqns) != 1 or cond.eqns[0].primitive.name != "reduce_or":
        return None
    (eqn,), carried = cond.eqns, cond.invars[params["cond_nconsts"] :]
    asked = eqn.invars[0]
    if eqn.outvars != cond.outvars or len(eqn.params["axes"]) != asked.aval.ndim:
        return None
    return carried.index(asked) if asked in carried else None


def _stops(body, consts, flag):
    """Whether nothing of a point changes once it does not go on."""
    carried, made = body.invars[consts:], {v: eqn for eqn in body.eqns for v in eqn.outvars}
    for k, v in enumerate(body.outvars):
        eqn = None if isinstance(v, Literal) else made.get(v)
        if eqn is None:
            return False
        if k == flag:
            good = eqn.primitive.name == "and" and carried[k] in eqn.invars
        else:
            which = [carried[flag], carried[k]]
            good = eqn.primitive.name == "select_n" and list(eqn.invars[:2]) == which
        if not good:
            return False
    return True


def _written_out(closed):
    """A loop's jaxpr without calls, open; None where it has constants."""
    jaxpr, consts = opened(closed)
    made = jax.make_jaxpr(lambda *inputs: interpret(jaxpr, consts, inputs, without_calls))(
        *(v.aval for v in jaxpr.invars)
    )
    return None if made.consts else made.jaxpr
