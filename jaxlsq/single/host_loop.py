"""The iteration for functions that JAX cannot trace: a loop on the host.

The user's function runs in Python between two calls of compiled code, which is
`jaxlsq.numerics` and is the same for all functions.  NumPy first reduces Jacobian
and residual to a triangle of n + 1 rows, so that the compiled code depends on the
number of parameters alone: neither a new function nor a new data length compiles.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.factor import BLOCK_ROWS, Factor, qr
from jaxlsq.numerics.iteration import judge, propose, relinearize
from jaxlsq.numerics.jacobian import repaired_on_host
from jaxlsq.numerics.minimize import Terms
from jaxlsq.numerics.norm import norm2
from jaxlsq.numerics.state import Options, State, start
from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.types import PyTreeDef
from jaxlsq.status import Status
from jaxlsq.tracing.compiler import COMPILER_OPTIONS
from jaxlsq.tracing.settings import contexts_to_enter

__all__ = ["OwnSettings", "StateLayout", "minimize_on_host", "pack_state", "packed_start"]

_SCALAR_OPTIONS = ("ftol", "xtol", "gtol", "max_nfev", "factor", "epsfcn")


def minimize_on_host(
    residual: Callable[..., Any],
    jacobian: Callable[..., Any],
    begin: tuple[np.ndarray, np.ndarray],
    options: Options,
    evaluations: int,
    terms: Terms | None = None,
) -> tuple[State, np.ndarray]:
    """`jaxlsq.numerics.iteration.minimize` with Python functions.

    Parameters
    ----------
    residual : callable
        ``residual(x) -> (m,)`` float64 NumPy array.
    jacobian : callable
        ``jacobian(x, f) -> (m, n)`` float64 NumPy array.
    begin : (x0, f0)
        (n,) and (m,) float64 NumPy arrays: the start, and ``residual(x0)``.
    options : Options
    evaluations : int
        Evaluations of the residual that one Jacobian takes.
    terms : Terms, optional
        Bounds and a loss.

    Returns
    -------
    state : State
        Of NumPy arrays.
    f : (m,) NumPy array
        Residual at the parameters.
    """
    x0, f0 = begin
    form = x0.size, terms is not None
    bounds = terms and terms.bounds
    f = trial_f = f0
    settings = OwnSettings()
    with settings:
        packed, given = packed_start(x0, form), _pack_options(options, terms)
    while True:
        with settings:
            norm = _norm(trial_f) if terms is None else _loss_norm(terms, trial_f)
            packed, head = _after_residual(form, packed, given, norm)
            x, status, accepted = _read(head)
            if status == Status.RUNNING and not accepted:
                packed, head = _after_rejection(form, packed, given)
                x, status, accepted = _read(head)
        if accepted and status == Status.RUNNING:
            jac, more = jacobian(x.copy(), trial_f), 0
            if not evaluations:
                jac, more = repaired_on_host(residual, x, trial_f, jac, bounds)
            count = np.int32(evaluations + more)
            with settings:
                triangle = _reduce(*_weighted(terms, jac, trial_f))
                packed, head = _after_jacobian(form, packed, given, triangle, count)
            x, status, accepted = _read(head)
        if accepted:
            f = trial_f
        if status != Status.RUNNING:
            return StateLayout.of(form).unpack(*map(np.asarray, packed)), f
        trial_f = residual(x.copy())


def _loss_norm(terms, f):
    return float(terms.norm(f))


class OwnSettings:
    """float64 on a CPU and JAX's defaults, for what is ours, again and again.

    The user's functions run between, in the user's settings, which are looked at once.
    """

    def __init__(self) -> None:
        self._cpu = jax.local_devices(backend="cpu")[0]
        self._contexts = contexts_to_enter()
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(jax.enable_x64(True))
        self._stack.enter_context(jax.default_device(self._cpu))
        for context, value in self._contexts:
            self._stack.enter_context(context(value))

    def __exit__(self, *error: Any) -> None:
        self._stack.close()


def _read(head):
    """The next point, the status and whether the trial was accepted, from one array."""
    head = np.asarray(head)
    return head[:-2], int(head[-2]), bool(head[-1])


def _norm(f):
    """`norm2` in NumPy; nearly always the plain formula will do."""
    with np.errstate(all="ignore"):
        squares = float(f @ f)
        return math.sqrt(squares) if 1e-200 < squares < 1e200 else float(norm2(f, xp=np))


def _weighted(terms, jac, f):
    """The Jacobian and residual of which the normal equations are made."""
    if terms is None or terms.loss is None:
        return jac, f
    rows, columns = terms.weighted(jac, f)
    return np.stack(columns, axis=1), np.asarray(rows[0])


def _reduce(jac, f):
    """R of a QR factorization of the Jacobian with the residual as last column."""
    m, n = jac.shape
    both = np.zeros((n + 1, max(m, n + 1))).T  # a column is contiguous, as LAPACK wants it
    both[:m, :n], both[:m, n] = jac, f
    whole = m - m % BLOCK_ROWS
    if whole > BLOCK_ROWS:  # blocks that stay in a core's cache, then their triangles
        blocks = both[:whole].reshape(-1, BLOCK_ROWS, n + 1)
        triangles = np.asarray(np.linalg.qr(blocks, mode="r")).reshape(-1, n + 1)
        both = np.concatenate([triangles, both[whole:]])
    return np.linalg.qr(both, mode="r")


@partial(jax.jit, static_argnums=0, compiler_options=COMPILER_OPTIONS)
def _after_residual(form, packed, options, trial_norm):
    """Judge the trial; so little that XLA computes it in the call, and not in a thread."""
    state = StateLayout.of(form).unpack(*packed)
    state = judge(state, trial_norm, _unpack_options(options, form)[0])
    return pack_state(state), _head(state, state.point.x)


@partial(jax.jit, static_argnums=0, compiler_options=COMPILER_OPTIONS)
def _after_rejection(form, packed, options):
    """Propose the next trial."""
    state = StateLayout.of(form).unpack(*packed)
    state = propose(state, _unpack_options(options, form)[1])
    return pack_state(state), _head(state, state.trial.x)


@partial(jax.jit, static_argnums=0, compiler_options=COMPILER_OPTIONS)
def _after_jacobian(form, packed, options, triangle, evaluations):
    """Take in the Jacobian at an accepted point and propose the next trial."""
    state = StateLayout.of(form).unpack(*packed)
    options, bounds = _unpack_options(options, form)
    factor = qr(triangle[:, :-1], triangle[:, -1])
    state = propose(relinearize(state, factor, options, evaluations, bounds), bounds)
    return pack_state(state), _head(state, state.trial.x)


def _head(state, x):
    flags = jnp.stack([state.status, state.accepted.astype(jnp.int32)])
    return jnp.concatenate([x, flags.astype(x.dtype)])


@dataclass(frozen=True)
class StateLayout:
    """Where each field of a `State` is in a vector of floats and one of integers.

    A call of compiled code pays for every array that it takes and gives: two
    in place of twenty are a tenth of the time.
    """

    tree: PyTreeDef
    fields: tuple[Any, ...]  # of (is integer, first, last, shape, dtype), a leaf each

    @staticmethod
    @lru_cache(maxsize=64)
    def of(form: tuple[int, bool]) -> "StateLayout":
        """The layout for n parameters, with bounds or without."""
        leaves, tree = jax.tree.flatten(_zero_start(form))
        used, fields = [0, 0], []
        for leaf in leaves:
            kind = int(leaf.dtype.kind != "f")
            fields.append((kind, used[kind], used[kind] + leaf.size, leaf.shape, leaf.dtype))
            used[kind] += leaf.size
        return StateLayout(tree, tuple(fields))

    def unpack(self, floats: AnyArray, integers: AnyArray) -> State:
        """The state whose fields are pieces of the two vectors."""
        vectors = floats, integers
        leaves = [
            vectors[kind][first:last].reshape(shape).astype(dtype)
            for kind, first, last, shape, dtype in self.fields
        ]
        return jax.tree.unflatten(self.tree, leaves)


def pack_state(state: State, xp: ModuleType = jnp) -> tuple[AnyArray, AnyArray]:
    """The two vectors that hold a state."""
    parts = [], []
    for leaf in jax.tree.leaves(state):
        is_float = leaf.dtype.kind == "f"
        parts[not is_float].append(xp.ravel(leaf if is_float else leaf.astype(np.int32)))
    return tuple(map(xp.concatenate, parts))


def _pack_options(options, terms):
    scalars = (getattr(options, name) for name in _SCALAR_OPTIONS)
    bounds = () if terms is None else terms.bounds
    return np.concatenate([[*scalars, *options.diag], *bounds]).astype(np.float64)


def _unpack_options(vector, form):
    """Options, and bounds or None."""
    n, bounded = form
    scalars = dict(zip(_SCALAR_OPTIONS, vector, strict=False))
    scalars["max_nfev"] = scalars["max_nfev"].astype(np.int32)
    diag, *bounds = vector[len(_SCALAR_OPTIONS) :].reshape(-1, n)
    return Options(**scalars, diag=diag), Bounds(*bounds) if bounded else None


@lru_cache(maxsize=64)
def _zero_start(form):
    n, bounded = form
    with jax.ensure_compile_time_eval():
        begun = start(jnp.zeros(n, jnp.float64), Factor.empty, bounded)
        return jax.tree.map(np.asarray, begun)


@lru_cache(maxsize=64)
def _start_template(form):
    """The packed start, and where the starting point is in it."""
    plain, other = _zero_start(form), np.full(form[0], np.nan)
    point = replace(plain.point, x=other)
    if point.before is not None:
        point = replace(point, before=replace(point.before, x=other))
    marked = replace(plain, point=point, trial=replace(plain.trial, x=other))
    return pack_state(plain, np), np.flatnonzero(np.isnan(pack_state(marked, np)[0]))


def packed_start(x0: np.ndarray, form: tuple[int, bool]) -> tuple[AnyArray, AnyArray]:
    """The packed state whose first trial is `x0`."""
    (floats, integers), places = _start_template(form)
    floats = floats.copy()
    floats[places] = np.tile(x0, places.size // x0.size)
    return floats, integers
