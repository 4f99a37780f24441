"""A function whose closure is an argument."""

from collections.abc import Callable, Sequence
from typing import Any, Self

from jaxlsq.tracing.jaxprs import eqn_results, interpret
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.trace import typed_consts
from jaxlsq.tracing.types import Jaxpr

__all__ = ["Hoisted"]


class Hoisted:
    """A function as its jaxpr, which takes what it closed over before its arguments.

    It keeps nothing of the closure, which may hold tracers: derivative rules outlive a trace.
    """

    def __init__(self, jaxpr: Jaxpr, equation: Callable[..., Any] = eqn_results) -> None:
        self._jaxpr = jaxpr
        self._equation = equation
        self.outputs: list[Any] = [variable.aval for variable in jaxpr.outvars]

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *examples: Any,
        equation: Callable[..., Any] = eqn_results,
    ) -> tuple[Self, list[Any]]:
        """The function, and what it closes over: a list of arrays, traced ones too.

        `equation` is `interpret`'s.
        """
        jaxpr, consts, _ = make_jaxpr(function, *examples)
        return cls(jaxpr, equation), typed_consts(jaxpr, consts)

    def __call__(self, constants: Sequence[Any], *arguments: Any) -> list[Any]:
        return interpret(self._jaxpr, constants, arguments, self._equation)
