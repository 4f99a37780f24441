"""The iteration for functions that JAX cannot trace: a loop on the host.

The user's function runs in Python between two calls of compiled code, which is
`jaxlsq.numerics` and is the same for all functions.  NumPy first reduces Jacobian
and residual to a triangle of n + 1 rows, so that the compiled code depends on the
number of parameters alone: neither a new function nor a new data length compiles.
"""

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.factor import qr
from jaxlsq.numerics.iteration import Options, judge, propose, relinearize, start
from jaxlsq.numerics.norm import norm2
from jaxlsq.status import Status

__all__ = ["minimize_on_host"]


def minimize_on_host(residual, jacobian, x0, f0, options, evaluations):
    """`jaxlsq.numerics.iteration.minimize` with Python functions.

    Parameters
    ----------
    residual : callable
        ``residual(x) -> (m,)`` float64 NumPy array.
    jacobian : callable
        ``jacobian(x, f) -> (m, n)`` float64 NumPy array.
    x0 : (n,) float64 NumPy array
    f0 : (m,) float64 NumPy array
        ``residual(x0)``.
    options : Options
    evaluations : int
        Evaluations of the residual that one Jacobian takes.

    Returns
    -------
    state : State
        Of NumPy arrays.
    f : (m,) NumPy array
        Residual at the parameters.
    """
    n = x0.size
    layout = _Layout.of(n)
    evaluations = np.int32(evaluations)
    floats, integers = _begin(x0, options)
    f = trial_f = f0
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        while True:
            trial_norm = norm2(trial_f, xp=np)
            floats, integers, x = _after_residual(n, floats, integers, trial_norm)
            status, accepted = layout.verdict(integers)
            if accepted:
                f = trial_f
            if accepted and status == Status.RUNNING:
                triangle = _reduce(jacobian(np.array(x), f), f)
                floats, integers, x = _after_jacobian(n, floats, integers, triangle, evaluations)
                status, _ = layout.verdict(integers)
            if status != Status.RUNNING:
                return layout.unpack(np.asarray(floats), np.asarray(integers))[0], f
            trial_f = residual(np.array(x))


def _reduce(jac, f):
    """R of a QR factorization of the Jacobian with the residual as last column."""
    both = np.concatenate([jac, f[:, None]], axis=1)
    if not np.isfinite(both).all():
        return np.full((jac.shape[1] + 1, jac.shape[1] + 1), np.nan)
    return np.linalg.qr(both, mode="r")


@partial(jax.jit, static_argnums=0)
def _after_residual(n, floats, integers, trial_norm):
    """Judge the trial; after a rejection, propose the next one.  Also the next point."""
    state, options = _Layout.of(n).unpack(floats, integers)
    state = judge(state, trial_norm, options)
    again = (state.status == Status.RUNNING) & ~state.accepted
    state = lax.cond(again, propose, lambda s: s, state)
    return *_pack((state, options)), jnp.where(again, state.trial.x, state.point.x)


@partial(jax.jit, static_argnums=0)
def _after_jacobian(n, floats, integers, triangle, evaluations):
    """Take in the Jacobian at an accepted point and propose the next trial."""
    state, options = _Layout.of(n).unpack(floats, integers)
    state = relinearize(state, qr(triangle[:, :n], triangle[:, n]), options, evaluations)
    state = propose(state)
    return *_pack((state, options)), state.trial.x


@dataclass(frozen=True)
class _Layout:
    """Where each field of ``(State, Options)`` is in a vector of floats and one of integers.

    A call of compiled code pays for every array that it takes and gives: two
    in place of thirty are a tenth of the time.
    """

    tree: object
    fields: tuple  # of (is integer, first, last, shape, dtype), a leaf each

    @staticmethod
    @lru_cache(maxsize=64)
    def of(n):
        """The layout for n parameters."""
        scalar = jax.ShapeDtypeStruct((), np.float64)
        vector = jax.ShapeDtypeStruct((n,), np.float64)
        count = jax.ShapeDtypeStruct((), np.int32)
        options = Options(scalar, scalar, scalar, count, scalar, vector, scalar)
        leaves, tree = jax.tree.flatten((jax.eval_shape(start, vector), options))
        used, fields = [0, 0], []
        for leaf in leaves:
            kind = int(not jnp.issubdtype(leaf.dtype, jnp.inexact))
            fields.append((kind, used[kind], used[kind] + leaf.size, leaf.shape, leaf.dtype))
            used[kind] += leaf.size
        return _Layout(tree, tuple(fields))

    def unpack(self, floats, integers):
        """The pytree whose leaves are pieces of the two vectors."""
        vectors = floats, integers
        leaves = [
            vectors[kind][first:last].reshape(shape).astype(dtype)
            for kind, first, last, shape, dtype in self.fields
        ]
        return jax.tree.unflatten(self.tree, leaves)

    @property
    @lru_cache(maxsize=64)
    def _verdict(self):
        floats, integers = (sum(f[2] - f[1] for f in self.fields if f[0] == k) for k in (0, 1))
        index = replace(self, fields=tuple((*f[:4], np.dtype(np.int64)) for f in self.fields))
        state = index.unpack(np.arange(floats), np.arange(integers))[0]
        return int(state.status), int(state.accepted)

    def verdict(self, integers):
        """``status`` and ``accepted`` from the vector of integers."""
        status, accepted = self._verdict
        integers = np.asarray(integers)
        return integers[status], integers[accepted]


def _pack(tree, xp=jnp):
    """The two vectors that hold a pytree's leaves."""
    parts = [], []
    for leaf in jax.tree.leaves(tree):
        is_float = leaf.dtype.kind == "f"
        parts[not is_float].append(xp.ravel(leaf if is_float else leaf.astype(np.int32)))
    return tuple(map(xp.concatenate, parts))


@lru_cache(maxsize=64)
def _zero_start(n):
    return jax.tree.map(np.asarray, start(np.zeros(n)))


def _begin(x0, options):
    """The packed state whose first trial is `x0`."""
    state = _zero_start(x0.size)
    state = replace(state, point=replace(state.point, x=x0), trial=replace(state.trial, x=x0))
    return _pack((state, options), np)
