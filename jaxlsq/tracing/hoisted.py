"""A function whose closure is an argument."""

from jaxlsq.tracing.jaxprs import interpret, make_jaxpr
from jaxlsq.tracing.trace import typed_consts

__all__ = ["Hoisted"]


class Hoisted:
    """A function as its jaxpr, which takes what it closed over before its arguments.

    It keeps nothing of the closure, which may hold tracers: derivative rules outlive a trace.
    """

    def __init__(self, jaxpr):
        self._jaxpr = jaxpr
        self.outputs = [variable.aval for variable in jaxpr.outvars]

    @classmethod
    def of(cls, function, *examples):
        """The function, and what it closes over: a list of arrays, traced ones too."""
        jaxpr, consts, _ = make_jaxpr(function, *examples)
        return cls(jaxpr), typed_consts(jaxpr, consts)

    def __call__(self, constants, *arguments):
        return interpret(self._jaxpr, constants, arguments)
