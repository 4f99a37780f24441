"""The three steps of the iteration for a fit on the host, compiled for a number of parameters.

They are `judge`, `relinearize` and `propose` of `jaxlsq.numerics`, between which the user's
function runs in Python.  Jacobian and residual are first reduced to a triangle of n + 1 rows, so
that neither a new function nor a new data length compiles.

By machine code of `jaxlsq.lowering` a step takes a microsecond or two, and all are compiled in a
quarter of a second; XLA, where that can't be had, needs some twenty times as long, and a second.
"""

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.lowering import reduction
from jaxlsq.lowering.engine import host_target, machine_code
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.lowering.routine import routine_text
from jaxlsq.lowering.target import Target
from jaxlsq.numerics.factor import qr
from jaxlsq.numerics.householder import BLOCK_ROWS
from jaxlsq.numerics.iteration import judge, propose, relinearize
from jaxlsq.numerics.minimize import Terms
from jaxlsq.numerics.state import Options, State
from jaxlsq.single.layout import (
    Form,
    StateLayout,
    options_length,
    pack_options,
    pack_state,
    packed_start,
    unpack_options,
)
from jaxlsq.tracing.cache import PROGRAMS
from jaxlsq.tracing.compiler import COMPILER_OPTIONS
from jaxlsq.tracing.settings import contexts_to_enter, own_settings

__all__ = ["OwnSettings", "Steps", "steps_from"]


class OwnSettings:
    """float64 on a CPU and JAX's defaults, for what is ours, again and again.

    The user's functions run between, in the user's settings, which are looked at once.
    """

    def __init__(self) -> None:
        self._cpu = jax.local_devices(backend="cpu")[0]
        self._others = bool(contexts_to_enter())

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)`` under them."""
        with jax.enable_x64(True), jax.default_device(self._cpu):
            if not self._others:
                return function(*arguments)
            with own_settings():
                return function(*arguments)


class Steps(ABC):
    """A fit between two steps, and how to take one.

    Parameters
    ----------
    form : Form
    begin : (floats, integers)
        The packed state.
    given : array
        The packed options.
    """

    def __init__(
        self, form: Form, begin: tuple[NDArray[Any], NDArray[Any]], given: NDArray[Any]
    ) -> None:
        self._form, self._layout = form, StateLayout.of(form)
        self._floats, self._integers = begin
        self._given = given
        places: Any = self._layout.places
        self._trial = places.trial.x
        self._status, self._accepted = places.status.start, places.accepted.start

    @property
    def trial_x(self) -> NDArray[Any]:
        """The point to evaluate."""
        return self._floats[self._trial].copy()

    @property
    def status(self) -> int:
        """A code of `jaxlsq.Status`."""
        return int(self._integers[self._status])

    @property
    def accepted(self) -> bool:
        """Whether the last trial was."""
        return bool(self._integers[self._accepted])

    @property
    def state(self) -> State:
        """The whole, of NumPy arrays."""
        return self._layout.unpack(self._floats, self._integers)

    @abstractmethod
    def judge(self, norm: float) -> None:
        """Take the norm of the residual at the trial."""

    @abstractmethod
    def take_in(self, jac: NDArray[Any], f: NDArray[Any], evaluations: int) -> None:
        """Take an (m, n) Jacobian and a residual, at an accepted trial."""

    @abstractmethod
    def propose(self) -> None:
        """Find the next trial."""


def steps_from(x0: NDArray[Any], options: Options, terms: Terms | None) -> Steps:
    """The `Steps` of a fit that begins at `x0`, with the bounds of `terms`."""
    form = Form(x0.size, terms is not None)
    begin, given = packed_start(x0, form), pack_options(options, terms)
    try:
        return _MachineSteps(_machine_code(form, host_target(form.n)), form, begin, given)
    except NotLowered:
        return _XlaSteps(form, begin, given)


# --- what is compiled ---------------------------------------------------------------------


def _judged(form, floats, integers, given, norm):
    state = StateLayout.of(form).unpack(floats, integers)
    return pack_state(judge(state, norm, unpack_options(given, form)[0]))


def _taken_in(form, floats, integers, given, triangle, evaluations):
    state = StateLayout.of(form).unpack(floats, integers)
    options, bounds = unpack_options(given, form)
    factor = qr(triangle[:, :-1], triangle[:, -1])
    return pack_state(relinearize(state, factor, options, evaluations, bounds))


def _proposed(form, floats, integers, given):
    state = StateLayout.of(form).unpack(floats, integers)
    return pack_state(propose(state, unpack_options(given, form)[1]))


# --- machine code -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Code:
    """Functions of addresses."""

    judge: Callable[..., None]
    take_in: Callable[..., None]
    propose: Callable[..., None]
    reduce: Callable[..., int]
    width: int


def _machine_code(form: Form, target: Target) -> _Code:
    """From the cache, or new."""
    return PROGRAMS.get(("steps", form), lambda: OwnSettings()(_compile, form, target))


def _compile(form, target):
    n = form.n
    state, given = packed_start(np.zeros(n), form), np.zeros(options_length(form))
    more = {
        _judged: (np.float64(0),),
        _taken_in: (np.zeros((n + 1, n + 1)), np.int32(0)),
        _proposed: (),
    }

    def function(step):
        closed = jax.make_jaxpr(partial(step, form))(*state, given, *more[step])
        kinds = [ctypes.c_void_p] * (5 + len(more[step]))
        # Optimization would take twice as long as all that it saves in thousands of fits.
        return machine_code("routine", routine_text(closed, target), target, kinds, level=0)

    kinds = [ctypes.c_int64] * 2 + [ctypes.c_void_p] * 2
    text = reduction.reduction_text(target)
    return _Code(
        judge=function(_judged),
        take_in=function(_taken_in),
        propose=function(_proposed),
        reduce=machine_code("reduction", text, target, kinds, ctypes.c_int64),
        width=target.width(np.float64),
    )


class _MachineSteps(Steps):
    """Steps in place: the state's arrays are read and overwritten."""

    def __init__(self, code, form, begin, given):
        super().__init__(form, begin, given)
        n = form.n
        self._code, self._work = code, None
        self._norm, self._evaluations = np.zeros(1), np.zeros(1, np.int32)
        self._triangle = np.zeros((n + 1, n + 1))
        numbers = *begin, given, self._norm, self._triangle, self._evaluations
        *read, norm, triangle, evaluations = (array.ctypes.data for array in numbers)
        state = read[:2]
        self._judge = partial(code.judge, *read, norm, *state)
        self._take_in = partial(code.take_in, *read, triangle, evaluations, *state)
        self._propose = partial(code.propose, *read, *state)

    def judge(self, norm):
        self._norm[0] = norm
        self._judge()

    def take_in(self, jac, f, evaluations):
        if self._work is None:
            self._prepare(*jac.shape)
        self._columns[:], self._rest[:] = jac.T, f
        if not self._reduce():
            self._triangle[:] = reduced(jac, f)
        self._evaluations[0] = evaluations
        self._take_in()

    def propose(self):
        self._propose()

    def _prepare(self, m, n):
        """The memory in which columns of m numbers are reduced."""
        width = self._code.width
        stride = -(-max(m, n + 1) // width) * width
        work = self._work = np.zeros((n + 1, stride))
        self._columns, self._rest = work[:n, :m], work[n, :m]
        pointers = work.ctypes.data, self._triangle.ctypes.data
        self._reduce = partial(self._code.reduce, n + 1, stride, *pointers)


# --- XLA ----------------------------------------------------------------------------------


def _jitted(step):
    return jax.jit(step, static_argnums=0, compiler_options=COMPILER_OPTIONS)


_JUDGED, _TAKEN_IN, _PROPOSED = map(_jitted, (_judged, _taken_in, _proposed))


class _XlaSteps(Steps):
    """Steps by programs of XLA."""

    def __init__(self, form, begin, given):
        super().__init__(form, begin, given)
        self._settings = OwnSettings()

    def _take(self, step, *more):
        state = self._floats, self._integers
        done = self._settings(step, self._form, *state, self._given, *more)
        self._floats, self._integers = map(np.asarray, done)

    def judge(self, norm):
        self._take(_JUDGED, norm)

    def take_in(self, jac, f, evaluations):
        self._take(_TAKEN_IN, reduced(jac, f), np.int32(evaluations))

    def propose(self):
        self._take(_PROPOSED)


def reduced(jac: NDArray[Any], f: NDArray[Any]) -> NDArray[Any]:
    """R of a QR factorization of the Jacobian with the residual as last column."""
    m, n = jac.shape
    both = np.zeros((n + 1, max(m, n + 1))).T  # a column is contiguous, as LAPACK wants it
    both[:m, :n], both[:m, n] = jac, f
    whole = m - m % BLOCK_ROWS
    if whole > BLOCK_ROWS:  # blocks that stay in a core's cache, then their triangles
        blocks = both[:whole].reshape(-1, BLOCK_ROWS, n + 1)
        triangles = np.asarray(np.linalg.qr(blocks, mode="r")).reshape(-1, n + 1)
        both = np.concatenate([triangles, both[whole:]])
    return np.asarray(np.linalg.qr(both, mode="r"))
