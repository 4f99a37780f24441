"""A fit's state and options as vectors, for functions that take few arrays."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.factor import Factor
from jaxlsq.numerics.minimize import Terms
from jaxlsq.numerics.state import Options, State, start
from jaxlsq.numerics.types import AnyArray
from jaxlsq.problem.types import PyTreeDef
from jaxlsq.tracing.settings import own_settings

__all__ = [
    "Form",
    "StateLayout",
    "options_length",
    "pack_options",
    "pack_state",
    "packed_start",
    "unpack_options",
]

_SCALAR_OPTIONS = ("ftol", "xtol", "gtol", "max_nfev", "factor", "epsfcn")


class Form(NamedTuple):
    """What decides how long the vectors are: n parameters, with bounds or without."""

    n: int
    bounded: bool


@dataclass(frozen=True)
class StateLayout:
    """Where each field of a `State` is in a vector of floats and one of integers.

    A call of compiled code pays for every array that it takes and gives: two
    in place of twenty are a tenth of the time.
    """

    tree: PyTreeDef
    fields: tuple[Any, ...]  # of (is integer, piece, shape, dtype), a leaf each

    @staticmethod
    @lru_cache(maxsize=64)
    def of(form: Form) -> "StateLayout":
        """The layout of a form."""
        leaves, tree = jax.tree.flatten(_zero_start(form))
        used, fields = [0, 0], []
        for leaf in leaves:
            kind = int(leaf.dtype.kind != "f")
            piece = slice(used[kind], used[kind] + leaf.size)
            fields.append((kind, piece, leaf.shape, leaf.dtype))
            used[kind] = piece.stop
        return StateLayout(tree, tuple(fields))

    def unpack(self, floats: AnyArray, integers: AnyArray) -> State:
        """The state whose fields are pieces of the two vectors."""
        vectors = floats, integers
        leaves = []
        for kind, piece, shape, dtype in self.fields:
            leaf = vectors[kind][piece]
            leaf = leaf if len(shape) == 1 else leaf.reshape(shape)
            leaves.append(leaf if leaf.dtype == dtype else leaf.astype(dtype))
        return jax.tree.unflatten(self.tree, leaves)

    @cached_property
    def places(self) -> State:
        """Of each field, the piece of its vector."""
        return jax.tree.unflatten(self.tree, [piece for _, piece, _, _ in self.fields])


def pack_state(state: State, xp: ModuleType = jnp) -> tuple[AnyArray, AnyArray]:
    """The two vectors that hold a state."""
    parts = [], []
    for leaf in jax.tree.leaves(state):
        is_float = leaf.dtype.kind == "f"
        parts[not is_float].append(xp.ravel(leaf if is_float else leaf.astype(np.int32)))
    return tuple(map(xp.concatenate, parts))


def pack_options(options: Options, terms: Terms | None) -> NDArray[Any]:
    """The vector that holds options, and bounds if there are any."""
    scalars = [float(getattr(options, name)) for name in _SCALAR_OPTIONS]
    bounds = () if terms is None else terms.bounds
    return np.concatenate([scalars, options.diag, *bounds])


def options_length(form: Form) -> int:
    """Of the vector of `pack_options`."""
    return len(_SCALAR_OPTIONS) + form.n * (3 if form.bounded else 1)


def unpack_options(vector: AnyArray, form: Form) -> tuple[Options, Bounds | None]:
    """Options, and bounds or None."""
    scalars = dict(zip(_SCALAR_OPTIONS, vector, strict=False))
    scalars["max_nfev"] = scalars["max_nfev"].astype(np.int32)
    diag, *bounds = vector[len(_SCALAR_OPTIONS) :].reshape(-1, form.n)
    return Options(**scalars, diag=diag), Bounds(*bounds) if form.bounded else None


@lru_cache(maxsize=64)
def _zero_start(form):
    with own_settings(), jax.enable_x64(True), jax.ensure_compile_time_eval():
        begun = start(jnp.zeros(form.n, jnp.float64), Factor.empty, form.bounded)
        return jax.tree.map(np.asarray, begun)


@lru_cache(maxsize=64)
def _start_template(form):
    """The packed start, and where the starting point is in it, (times, n)."""
    plain, other = _zero_start(form), np.full(form.n, np.nan)
    point = replace(plain.point, x=other)
    if point.before is not None:
        point = replace(point, before=replace(point.before, x=other))
    marked = replace(plain, point=point, trial=replace(plain.trial, x=other))
    places = np.flatnonzero(np.isnan(pack_state(marked, np)[0]))
    return pack_state(plain, np), places.reshape(-1, form.n)


def packed_start(x0: NDArray[Any], form: Form) -> tuple[NDArray[Any], NDArray[Any]]:
    """The packed state whose first trial is `x0`."""
    (floats, integers), places = _start_template(form)
    floats = floats.copy()
    floats[places] = x0
    return floats, integers.copy()
