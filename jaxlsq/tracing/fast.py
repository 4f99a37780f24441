"""A function with those of its equations replaced that XLA:CPU computes slowly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxlsq.tracing.convolution import convolve, is_slow
from jaxlsq.tracing.elementary import is_replaced, replacement
from jaxlsq.tracing.jaxprs import interpret
from jaxlsq.tracing.parts import CALLS, RULES, opened
from jaxlsq.tracing.types import Jaxpr

__all__ = ["convolves", "with_fast_convolutions", "with_fast_functions"]

# Primitives that hold some jaxprs of which each may be replaced.
_BODIES = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr"), "cond": ("branches",)}


def with_fast_functions(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with sines, cosines, logarithms and convolutions of pairs replaced.

    Parameters
    ----------
    function : callable
        Traceable, and not to be differentiated afterwards: custom rules are dropped.

    Returns
    -------
    callable
        The function itself unless the default device is a CPU.
    """
    return _replaced(function, _Replacing(_replaced_at_the_end, CALLS | RULES))


def with_fast_convolutions(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function for `vmap` and derivatives, with each convolution of two vectors replaced.

    Parameters
    ----------
    function : callable
        Traceable.

    Returns
    -------
    callable
        The function itself unless the default device is a CPU.
    """
    return _replaced(function, _Replacing(_replaced_before, CALLS))


def convolves(jaxpr: Jaxpr) -> bool:
    """Whether a jaxpr has convolutions that `with_fast_convolutions` replaces."""
    return _Replacing(_replaced_before, CALLS).is_slow_inside(opened(jaxpr)[0])


def _replaced_before(eqn):
    return convolve if is_slow(eqn, least_groups=1) else None


def _replaced_at_the_end(eqn):
    if is_replaced(eqn):
        return lambda x, **_: replacement(eqn)(x)
    return convolve if is_slow(eqn) else None


def _replaced(function, replacing):
    if jax.default_backend() != "cpu":
        return function

    def replaced(*arguments):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if not replacing.is_slow_inside(closed.jaxpr):
            return function(*arguments)
        out = replacing.run(closed.jaxpr, closed.consts, jax.tree.leaves(arguments), {})
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return replaced


def _key(eqn, arguments):
    """What an equation without jaxprs computes."""
    operands = tuple(
        (np.asarray(value).tobytes(), atom.aval) if hasattr(atom, "val") else id(value)
        for atom, value in zip(eqn.invars, arguments, strict=True)
    )
    return eqn.primitive.name, operands, str(eqn.params)


@dataclass(frozen=True)
class _Replacing:
    """Evaluation of jaxprs with some equations replaced.

    Attributes
    ----------
    find : callable
        ``find(eqn)`` is what stands in the place of an equation, a function of its operands and
        parameters, or None.
    calls : dict
        Primitives that are looked through, and which parameter holds their jaxpr.
    """

    find: Callable[..., Any]
    calls: dict[str, str]

    def is_slow_inside(self, jaxpr):
        """Whether there is anything to replace."""
        return any(
            self.find(eqn) or any(self.is_slow_inside(opened(v)[0]) for v in self._inner(eqn))
            for eqn in jaxpr.eqns
        )

    def _inner(self, eqn):
        name = eqn.primitive.name
        keys = (self.calls[name],) if name in self.calls else _BODIES.get(name, ())
        for key in keys:
            value = eqn.params[key]
            yield from value if isinstance(value, (tuple, list)) else (value,)

    def run(self, jaxpr, consts, inputs, known):
        """The jaxpr's outputs.

        `known` holds the results of equations by what they compute: each column of a Jacobian comes
        with the whole function once more, and XLA does not see that two loops are the same.
        """

        def equation(eqn, arguments):
            plain = not eqn.effects and next(self._inner(eqn), None) is None
            key = _key(eqn, arguments) if plain else None
            results, _ = known.get(key, (None, None))
            if results is None:
                results = self._results(eqn, arguments, known)
            if plain:  # with the arguments, whose identities must last as long
                known[key] = results, arguments
            return results

        return interpret(jaxpr, consts, inputs, equation)

    def _results(self, eqn, arguments, known):
        instead = self.find(eqn)
        if instead:
            return [instead(*arguments, **eqn.params)]
        if eqn.primitive.name in self.calls:
            inner, consts = opened(eqn.params[self.calls[eqn.primitive.name]])
            return self.run(inner, consts, arguments, known)
        params = eqn.primitive.get_bind_params(eqn.params | self._bodies(eqn))
        results = eqn.primitive.bind(*arguments, **params)
        return results if eqn.primitive.multiple_results else [results]

    def _bodies(self, eqn):
        """The parameters of a loop or of branches that have something replaced in them."""
        bodies = {}
        for key in _BODIES.get(eqn.primitive.name, ()):
            value = eqn.params[key]
            several = isinstance(value, (tuple, list))
            bodies[key] = tuple(map(self._body, value)) if several else self._body(value)
        return bodies

    def _body(self, closed):
        if not isinstance(closed, ClosedJaxpr) or not self.is_slow_inside(closed.jaxpr):
            return closed
        fast = jax.make_jaxpr(lambda *a: self.run(closed.jaxpr, closed.consts, a, {}))(
            *closed.in_avals
        )
        kinds = [[(v.shape, v.dtype) for v in one.out_avals] for one in (fast, closed)]
        return fast if kinds[0] == kinds[1] and not fast.consts else closed
