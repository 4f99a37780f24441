"""A function of all points of a data set as a function of one point.

The residual of a decay at m points is m times the same formula.  From the jaxpr at m points, and
from its results backwards, each array's *place* says along which of its axes the points lie
(`jaxlsq.lowering.axes`); where every result at a point is made of what that point has, the same
equations with one in the place of m are the program of one point, for data of any length.

What does not depend on the parameters is no obstacle.  Where it mixes points (a cumulative sum of
the data, their mean, the number of the point) it is computed beforehand, and the program reads it;
and where it is the same for all lanes and costs much (the cosine of x) a program of its own, the
*stage*, computes it once for many fits, point by point.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxlsq.lowering.arrays import is_lowered
from jaxlsq.lowering.axes import NOWHERE, Place
from jaxlsq.lowering.narrow import at_one_point, parts_of_operands
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.lowering.point_program import Input, PointProgram
from jaxlsq.tracing.jaxprs import eqn_results, equations, inner_jaxprs
from jaxlsq.tracing.parts import opened
from jaxlsq.tracing.types import Jaxpr

__all__ = ["pointwise"]

# Arithmetic that is cheaper to do again at each point of each trial than to read from memory.
CHEAP = (
    *("add", "sub", "mul", "neg", "abs", "max", "min", "select_n", "integer_pow", "square"),
    *("and", "or", "not", "xor", "lt", "le", "gt", "ge", "eq", "ne", "is_finite", "clamp"),
    *("convert_element_type", "copy", "stop_gradient", "sign", "add_any"),
    *("reshard", "pvary", "pcast", "sharding_constraint"),
    *("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "slice"),
    *("reduce_and", "reduce_or", "unstack", "split", "stack", "concatenate"),
)
# Numbers without points that a lane may have, and that all may share.
MOST_OF_LANE, MOST_SHARED = 256, 1024
# Numbers without points up to which arithmetic is cheap.
SMALL = 16
# Residuals, and operations, of points that may be taken as one: each is an instruction.
MOST_ROWS, MOST_OPERATIONS = 96, 12_000
# Points side by side, whose loops a processor computes at once (distances from a curve: 1.2 times
# as fast), and operations up to which it is worth the longer code.
ABREAST, MOST_ABREAST = 3, 400


def pointwise(jaxpr: Jaxpr, n: int, of_lane: Sequence[bool], outputs: int) -> PointProgram:
    """The program of one point.

    Parameters
    ----------
    jaxpr : Jaxpr
        Open and without constants: of n parameters, scalars, and other inputs.  Calls are written
        out in it.
    n : int
    of_lane : sequence of bool
        Which of the other inputs each lane has its own of.
    outputs : int
        The first so many results are wanted, each (m,).

    Returns
    -------
    PointProgram

    Raises
    ------
    NotLowered
        If a point's results are made of more than what that point has, and there are too many
        points to take them all as one; or of operations that the lowering does not know.
    """
    results = jaxpr.outvars[:outputs]
    m = results[0].aval.shape[0]
    if not m:
        raise NotLowered("no points")
    try:
        return _Analysis(jaxpr, n, of_lane).program([(v, ((0, m),)) for v in results], m)
    except NotLowered as reason:
        if m > MOST_ROWS or operations(jaxpr) > MOST_OPERATIONS:
            raise
        try:  # all points as one
            return _Analysis(jaxpr, n, of_lane).program([(v, NOWHERE) for v in results], 1, m)
        except NotLowered:
            raise reason from None


def operations(jaxpr: Jaxpr) -> int:
    """Numbers that a program computes, with loops written out."""
    count = 0
    for eqn in jaxpr.eqns:
        inner = sum(operations(opened(one)[0]) for one in inner_jaxprs(eqn))
        count += inner * eqn.params.get("length", 1) + sum(v.aval.size for v in eqn.outvars)
    return count


class _Analysis:
    """Which parts of which variables the points need.

    Parameters
    ----------
    jaxpr, n, of_lane
        As for `pointwise`.
    in_stage : bool
        Whether what is the same for all lanes is not read but computed.
    """

    def __init__(self, jaxpr, n, of_lane, in_stage=False):
        self.jaxpr, self.n, self.of_lane, self.in_stage = jaxpr, n, of_lane, in_stage
        self.parameters = () if in_stage else jaxpr.invars[:n]
        self.given = {v: k for k, v in enumerate(jaxpr.invars[n:])}
        self.moves = self._reach(jaxpr.invars[:n])
        self.depends = self._reach(jaxpr.invars)
        lanes = [v for v, own in zip(jaxpr.invars[n:], of_lane, strict=True) if own]
        self.varies = self._reach(lanes)
        self.made = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
        self.places: dict[Any, set[Place]] = {}
        self.known: dict[tuple[Any, Place], None] = {}  # what is read, in order
        self.staged: dict[tuple[Any, Place], None] = {}

    def _reach(self, begin):
        """Variables that depend on some."""
        reached = set(begin)
        for eqn in self.jaxpr.eqns:
            if any(v in reached for v in eqn.invars if not isinstance(v, Literal)):
                reached.update(eqn.outvars)
        return reached

    def program(self, wanted, points, rows=1):
        """The program of one point of some parts of variables."""
        for v, place in wanted:
            self._ask(v, place)
        for eqn in reversed(self.jaxpr.eqns):
            for v in eqn.outvars:
                for place in sorted(self.places.get(v, ()), key=str):
                    self._ask_operands(eqn, v, place)
        read, before = self._inputs()
        closed = jax.make_jaxpr(self._at_point(read, wanted))(
            *(jax.ShapeDtypeStruct((), v.aval.dtype) for v in self.parameters),
            *(jax.ShapeDtypeStruct(i.part, i.dtype) for i in read.values()),
        )
        stage = None
        if self.staged:
            inner = _Analysis(self.jaxpr, self.n, self.of_lane, in_stage=True)
            stage = inner.program(list(self.staged), points)
        return PointProgram(
            closed.jaxpr,
            tuple(closed.consts),
            tuple(read.values()),
            self._beforehand(before) if before else None,
            tuple(v in self.varies for v in before),
            points,
            rows,
            tuple(
                isinstance(v, Literal) or (v not in self.moves and v not in self.varies)
                for v, _ in wanted
            ),
            stage,
            _abreast(closed.jaxpr) if points > 1 else 1,
        )

    # --- backwards: what is needed ------------------------------------------------------

    def _ask(self, v, place):
        """Note that a part of a variable is needed."""
        if isinstance(v, Literal):
            return
        self.places.setdefault(v, set()).add(place)
        if v in self.given:
            self.known[v, place] = None
        elif v in self.moves:
            if place == NOWHERE and v.aval.size > MOST_OF_LANE:
                raise NotLowered(f"an array of {v.aval.size} numbers that is needed as a whole")
        elif not self._is_pointwise(v, place):
            self.known[v, place] = None
        elif not self._is_cheap(v, place):
            self.known[v, place] = None
            self.staged[v, place] = None

    def _is_pointwise(self, v, place):
        """Whether what does not depend on the parameters can be computed at each point."""
        eqn = self.made[v]
        if not is_lowered(eqn) or any(True for _ in inner_jaxprs(eqn)):
            return False
        if place != NOWHERE:
            return parts_of_operands(eqn, place) is not None
        if v not in self.depends:  # a number, or a few
            return v.aval.size <= MOST_OF_LANE
        # No sum of many, and nothing that has points after all.
        return all(u.aval.size <= max(v.aval.size, 1) <= SMALL for u in eqn.invars) or (
            eqn.primitive.name in ("slice", "squeeze") and eqn.invars[0].aval.size <= MOST_OF_LANE
        )

    def _is_cheap(self, v, place):
        """Whether it is better done again at each point of each trial than read."""
        anywhere = place == NOWHERE or v in self.varies or self.in_stage
        return anywhere or self.made[v].primitive.name in CHEAP

    def _ask_operands(self, eqn, v, place):
        if (v, place) in self.known:
            return
        name = eqn.primitive.name
        if not is_lowered(eqn):
            raise NotLowered(f"the operation {name!r}")
        places = parts_of_operands(eqn, place)
        if places is None:
            raise NotLowered(f"{name!r} along the points")
        for inner in inner_jaxprs(eqn):
            _check_lowered(inner)
        for operand, one in zip(eqn.invars, places, strict=True):
            self._ask(operand, one)

    # --- forwards: the program ------------------------------------------------------------

    def _inputs(self):
        """`Input` of each part that is read, and the variables that are computed beforehand."""
        read, before = {}, []
        for v, place in self.known:
            if v not in self.given and (v, place) not in self.staged and v not in before:
                before.append(v)
            staged = (v, place) in self.staged
            if staged:
                source = list(self.staged).index((v, place))
            else:
                source = self.given[v] if v in self.given else -1 - before.index(v)
            one = Input(v in self.varies, place, v.aval.shape, v.aval.dtype, source, staged)
            if not one.of_point and one.size > (MOST_OF_LANE if one.of_lane else MOST_SHARED):
                raise NotLowered(f"data of {one.size} numbers that are needed as a whole")
            read[v, place] = one
        return read, before

    def _beforehand(self, before):
        jaxpr = self.jaxpr

        def computed(*inputs):
            values = dict(zip(jaxpr.invars[self.n :], inputs, strict=True))
            needed = self._needed(before)
            for eqn in jaxpr.eqns:
                if any(v in needed for v in eqn.outvars):
                    arguments = [_value(values, v) for v in eqn.invars]
                    values.update(zip(eqn.outvars, eqn_results(eqn, arguments), strict=True))
            return [values[v] for v in before]

        return computed

    def _needed(self, wanted):
        """Variables that some are made of, with themselves."""
        needed = set(wanted)
        for eqn in reversed(self.jaxpr.eqns):
            if any(v in needed for v in eqn.outvars):
                needed.update(v for v in eqn.invars if not isinstance(v, Literal))
        return needed

    def _at_point(self, read, wanted):
        jaxpr, n = self.jaxpr, len(self.parameters)

        def point(*arguments):
            pairs = zip(self.parameters, arguments[:n], strict=True)
            values = {(v, NOWHERE): x for v, x in pairs}
            values.update(zip(read, arguments[n:], strict=True))
            at_one_point(jaxpr, self.places, values)
            found = [v.val if isinstance(v, Literal) else values[v, p] for v, p in wanted]
            return [jnp.reshape(x, ()) if np.size(x) == 1 else jnp.ravel(x) for x in found]

        return point


def _abreast(jaxpr):
    """How many points are to be side by side: several where there is a loop of unknown length."""
    has_loop = any(eqn.primitive.name == "while" for eqn in jaxpr.eqns)
    return ABREAST if has_loop and operations(jaxpr) <= MOST_ABREAST else 1


def _value(values, v):
    return v.val if isinstance(v, Literal) else values[v]


def _check_lowered(jaxpr):
    """Raise NotLowered for an operation in a loop or a branch that the lowering does not know."""
    for eqn in equations(jaxpr):
        if not is_lowered(eqn):
            raise NotLowered(f"the operation {eqn.primitive.name!r}")
