"""What is fitted, one data set at a time, as functions that can be traced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxlsq.numerics.jacobian import EVALUATIONS, linearized
from jaxlsq.numerics.loss import Loss, as_rows, summands
from jaxlsq.numerics.repair import repaired_columns
from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.checks import jacobian_columns
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.types import Parts
from jaxlsq.tracing.unstack import unstacked

__all__ = ["Seen", "Task"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Seen:
    """What was seen of each data set before its fits.

    Attributes
    ----------
    live : (D,) int32 array
        Points that count.
    size : (D,) array
        About the norm of the data, in the units of the residual; zero where it is not known.
    """

    live: AnyArray
    size: AnyArray


@dataclass(frozen=True)
class Task:
    """What is fitted, one data set at a time; every function is traceable.

    Attributes
    ----------
    layout : Layout
        Of the parameters.
    residual : callable
        ``residual(params, lane, shared) -> (m,)``.  It may have a method ``beside(params, lane,
        shared)``, which does once what is the same for all derivatives at these parameters, and
        returns ``residual(params) -> (m,)`` with the same value and derivatives there.
    jac : str or callable
        A method of `jaxlsq.numerics.jacobian`, or ``jac(params, lane, shared) -> (m, n)``.
    check : callable
        ``check(lanes, shared, m, xp) -> Seen, finite``: what is seen of data sets, which are in
        front, and whether what counts of each is finite; ``xp`` is jax.numpy or numpy.
    loss : Robust, Poisson or None
        See `jaxlsq.numerics.loss`; the residual is Poisson's model.
    extra : callable or None
        ``extra(lane, shared)``: what the loss needs.
    repairs : bool
        Whether derivatives that are not finite are taken by differences at once.  Where not, a
        fit ends there and is begun again with them: few need it, and all would pay.
    """

    layout: Layout
    residual: Callable[..., Any]
    jac: str | Callable[..., Any]
    check: Callable[..., Any]
    loss: Loss | None = None
    extra: Callable[..., Any] | None = None
    repairs: bool = False

    @property
    def eliminated(self) -> int:
        """How many parameters there are beside those of `layout`."""
        return 0

    def lane(self, lane: Parts, shared: Parts, repair: bool = False) -> Callable[..., Any]:
        """``rows, columns`` as a function of the scalars."""
        parts = self.summands(lane, shared, repair)
        return lambda xs: as_rows(parts(xs), len(xs))

    def summands(self, lane: Parts, shared: Parts, repair: bool = False) -> Callable[..., Any]:
        """`jaxlsq.numerics.loss.summands` as a function of the scalars.

        With `repair`, derivatives that are not finite come from differences.
        """
        linear = self._linear(lane, shared)
        if repair:
            linear = repaired_columns(linear)
        extra = self.extra and self.extra(lane, shared)

        def evaluate(xs):
            f, columns = linear(xs)
            return summands(self.loss, f, columns, extra)

        return evaluate

    def _linear(self, lane, shared):
        """Residual and columns; finite differences stay in the lane's bounds, if it has any."""

        def residual(*xs):
            return self.residual(self.layout.from_scalars(xs), lane, shared)

        jac, beside = self.jac, getattr(self.residual, "beside", None)
        if beside is not None and not callable(jac):

            def near(xs):
                one = beside(self.layout.from_scalars(xs), lane, shared)

                def residual(*xs):
                    return one(self.layout.from_scalars(xs))

                return linearized(unstacked(residual), jac, 0.0, lane.get("bounds"))(xs)

            return near
        residual = unstacked(residual)
        if callable(jac):

            def given(xs):
                rows, f = jac(self.layout.from_scalars(xs), lane, shared), residual(*xs)
                return f, jacobian_columns(rows, f, len(xs))

            return given
        return linearized(residual, jac, 0.0, lane.get("bounds"))

    @property
    def evaluations(self) -> int:
        """Evaluations of the residual that one Jacobian takes."""
        return 0 if callable(self.jac) else self.layout.n * EVALUATIONS[self.jac]
