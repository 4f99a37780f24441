"""A general residual and its Jacobian, ``fun(params, data)``, as functions of one problem."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.problem.checks import check_one_axis
from jaxlsq.problem.task import Seen
from jaxlsq.problem.types import Parts, PyTree
from jaxlsq.tracing.numpy_arrays import as_numpy_would

__all__ = ["FunJacobian", "FunResidual", "all_points"]


@dataclass(frozen=True)
class FunResidual:
    """A general residual on one problem's data."""

    fun: Callable[..., Any]
    join: Callable[..., Any]

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        f = as_numpy_would(self.fun, params, self.join(lane, shared))
        if f is None:
            raise TypeError("fun returned None; expected an array. Is a return missing?")
        f = jnp.asarray(f)
        check_one_axis(f.shape, "fun")
        if jnp.iscomplexobj(f):
            raise TypeError(
                f"fun must return real numbers, got dtype {f.dtype}. Return real and imaginary "
                "parts, one after the other."
            )
        return f.astype(jnp.result_type(*jax.tree.leaves(params)))


@dataclass(frozen=True)
class FunJacobian:
    """A general Jacobian on one problem's data."""

    jac: Callable[..., Any]
    join: Callable[..., Any]

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        return jnp.asarray(as_numpy_would(self.jac, params, self.join(lane, shared)))


def all_points(lanes: Parts, shared: Parts, m: int, xp: ModuleType) -> tuple[Seen, Any]:
    """`Task.check` of a general residual, of whose data nothing is known."""
    arrays = jax.tree.leaves(lanes)
    count = arrays[0].shape[:1] if arrays else (1,)
    seen = Seen(xp.full(count, m, np.int32), xp.zeros(count, jnp.zeros(()).dtype))
    return seen, xp.ones(count, bool)
