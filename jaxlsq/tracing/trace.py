"""A function of the user's as a program: traced, compared with others, and evaluated.

A residual is traced once, with its parameters (and in a batch one lane's data) as the only
variables.  Its structure (see `jaxlsq.tracing.structure`) is the key of the cache: two residuals
with the same one are the same program on other numbers, whatever Python made them.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.tracing.cache import Memory, remembering
from jaxlsq.tracing.fingerprint import TRACES, TraceKey
from jaxlsq.tracing.jaxprs import called, depends, eqn_results, equations, interpret
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.structure import StructureReader, Unkeyable, aval_key, is_scalar_literal
from jaxlsq.tracing.types import Jaxpr
from jaxlsq.tracing.varying import without_mesh

__all__ = ["Traced", "evaluate", "remembered", "trace", "typed_consts", "with_fixed_literals"]


@dataclass(frozen=True)
class Traced:
    """A traced function.

    Attributes
    ----------
    jaxpr
        Its jaxpr, open.
    outputs : list
        Shape and dtype of each output.
    depends : list of bool
        Whether each output depends on an input at all.
    key : tuple or None
        The structure, hashable; None if the program must not be cached.
    arrays : tuple
        The hoisted arrays, in the order in which `evaluate` reads them.
    scalars : (k,) float64 array
        The floating-point scalars, likewise.
    hoisted : (k,) bool array
        Which of them are data; the others are in the program, and part of the key.
    """

    jaxpr: Jaxpr
    outputs: list[Any]
    depends: list[bool]
    key: tuple[Any, ...] | None
    arrays: tuple[Any, ...]
    scalars: NDArray[Any]
    hoisted: NDArray[Any]

    @property
    def data(self) -> tuple[tuple[Any, ...], NDArray[Any]]:
        """What a compiled program takes: arrays, and the scalars that are data."""
        return self.arrays, self.scalars[self.hoisted]

    @property
    def flat_data(self) -> tuple[Any, ...]:
        """The same as a tuple of arrays, the scalars last."""
        return (*self.arrays, self.scalars[self.hoisted])

    def kept(self, place: TraceKey) -> Self:
        """To be remembered: without what is the caller's.

        NumPy's arrays are copied, as they may change, and JAX's are not held.
        """

        def own(array):
            if isinstance(array, jax.Array):
                return weakref.ref(array) if id(array) in place.arrays else array
            return np.array(array)

        return replace(self, arrays=tuple(map(own, self.arrays)))

    @property
    def alive(self) -> Self | None:
        """Of what was `kept`, the function; None if an array that it reads is no more."""
        arrays = [v() if isinstance(v, weakref.ref) else v for v in self.arrays]
        missing = any(v is None for v in arrays)
        return None if missing else replace(self, arrays=tuple(arrays))

    def hoisting(self, which: NDArray[Any]) -> Self:
        """The same with some of the scalars as data."""
        key = self.key and (*self.key[:2], which.tobytes(), self.scalars[~which].tobytes())
        return replace(self, key=key, hoisted=which)


def remembered(place: TraceKey | None, make: Callable[[], Traced]) -> Traced:
    """What ``make()`` gave for an equal `TraceKey`, or gives now."""
    if place is None:
        return make()
    made: list[Traced] = []

    def keep():
        made.append(make())
        return made[-1].kept(place)

    alive = TRACES.get(place, keep).alive
    if alive is None and not made:
        TRACES.put(place, keep())
    return made[-1] if alive is None or made else alive


# For each structure, its scalars when it was first seen, and which have had other values since.
_SCALARS = remembering(Memory(size=512))


def with_fixed_literals(traced: Traced) -> Traced:
    """The same with only those scalars as data that have had more than one value.

    XLA simplifies with a number that it knows, and a model that closes over another one for each
    data set need not be compiled for each.
    """
    if traced.key is None:
        return traced.hoisting(~traced.hoisted)
    first, varied = _SCALARS.find(traced.key) or (traced.scalars, ~traced.hoisted)
    varied = varied | (first.view(np.int64) != traced.scalars.view(np.int64))
    _SCALARS.put(traced.key, (first, varied))
    return traced.hoisting(varied)


_REVERSE_ONLY = (
    "The function calls one of jax.custom_vjp, which has no derivative in forward mode. Give "
    "jac='jacrev', or a Jacobian of your own, or differences ('2-point')."
)


def _is_reverse_only(jaxpr):
    """Whether a function of `jax.custom_vjp` was differentiated in forward mode."""
    return any(eqn.primitive.name == "custom_lin" for eqn in equations(jaxpr))


def trace(fun: Callable[..., Any], *examples: Any) -> Traced:
    """Trace ``fun(*inputs)`` at the shapes and types of the examples.

    Parameters
    ----------
    fun : callable
        ``fun(*inputs) -> tuple of arrays``.
    *examples : arrays, or their shapes and types

    Returns
    -------
    Traced
        With all scalars as data.

    Raises
    ------
    TypeError
        If it is differentiated in forward mode, of which something in it has none.
    Exception
        Whatever `fun` raises when it is given tracers.
    """
    jaxpr, consts, _ = make_jaxpr(fun, *examples)
    if _is_reverse_only(jaxpr):
        raise TypeError(_REVERSE_ONLY)
    reader = StructureReader()
    try:
        key = (reader.read(jaxpr, consts), tuple(map(aval_key, reader.arrays)))
    except Unkeyable:
        reader = StructureReader(keyed=False)
        reader.read(jaxpr, consts)
        key = None
    return Traced(
        jaxpr=jaxpr,
        outputs=[v.aval for v in jaxpr.outvars],
        depends=depends(jaxpr, [True] * len(jaxpr.invars)),
        key=key,
        arrays=tuple(reader.arrays),
        scalars=np.array(reader.scalars, np.float64),
        hoisted=np.ones(len(reader.scalars), bool),
    )


def evaluate(
    traced: Traced, inputs: Sequence[Any], arrays: Sequence[Any], scalars: Any = ()
) -> list[Any]:
    """The traced function on other data of the same structure.

    Parameters
    ----------
    traced : Traced
    inputs : sequence of arrays
    arrays, scalars
        As `Traced.data`.

    Returns
    -------
    list of arrays
    """
    following = iter(arrays)
    places = iter(np.where(traced.hoisted, np.cumsum(traced.hoisted) - 1, -1).tolist())

    def literal(atom, eqn_name):
        place = next(places) if is_scalar_literal(atom, eqn_name) else -1
        if place < 0:
            return without_mesh(atom.val)
        return scalars[place].astype(atom.aval.dtype)

    def equation(eqn, arguments):
        inner = called(eqn)
        return run(inner[0], arguments) if inner else eqn_results(eqn, arguments)

    def run(jaxpr, inputs):
        consts = [typed(next(following), v.aval.dtype) for v in jaxpr.constvars]
        return interpret(jaxpr, consts, inputs, equation, literal)

    return run(traced.jaxpr, inputs)


def typed_consts(jaxpr: Jaxpr, consts: Sequence[Any]) -> list[Any]:
    """Constants of a jaxpr, each as `typed`."""
    pairs = zip(consts, jaxpr.constvars, strict=True)
    return [typed(value, variable.aval.dtype) for value, variable in pairs]


def typed(array: Any, dtype: Any) -> Any:
    """A hoisted array in the wider of its own type and that of its trace, as far as JAX has it.

    JAX may remember a closed-over NumPy array from another trace, and say float64 of it in a jaxpr
    whose equations are of float32, or the reverse.
    """
    if jnp.issubdtype(dtype, jax.dtypes.extended):  # a typed key of random numbers
        return array
    array = array if hasattr(array, "shape") else np.asarray(array, dtype)
    if array.dtype.kind == np.dtype(dtype).kind:
        dtype = np.promote_types(array.dtype, dtype)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return array if array.dtype == dtype else jax.lax.convert_element_type(array, dtype)
