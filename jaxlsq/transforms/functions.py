"""The user's functions of one problem, as functions of n scalars."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.jacobian import EVALUATIONS, linearized
from jaxlsq.problem.checks import check_one_axis, jacobian_columns
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.starts import wide_enough
from jaxlsq.problem.types import PyTree
from jaxlsq.tracing.numpy_arrays import as_numpy_would
from jaxlsq.tracing.unstack import unstacked

__all__ = ["Call", "Functions", "typed"]


@dataclass(frozen=True)
class Call:
    """How the user's functions are called: with parameters as `x0` was given, and what follows."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    layout: Layout
    dtypes: tuple[Any, ...]

    def _of(self, function, xs):
        """Its value at n scalars; no parameter is narrower than float32."""
        params = typed(self.layout.from_scalars(xs), map(wide_enough, self.dtypes))
        value = as_numpy_would(function, params, *self.args, **self.kwargs)
        if value is None:
            raise TypeError("fun or jac returned None; expected an array. Is a return missing?")
        return jnp.asarray(value)

    def residual(self, fun: Callable[..., Any], *xs: jax.Array) -> jax.Array:
        """A residual (m,); a complex one is its real parts, then its imaginary parts."""
        f = self._of(fun, xs)
        check_one_axis(f.shape, "fun")
        if jnp.iscomplexobj(f):
            f = jnp.concatenate([f.real, f.imag])
        return f.astype(xs[0].dtype)

    def jacobian(self, jac: Callable[..., Any], *xs: jax.Array) -> jax.Array:
        """A Jacobian (m, n)."""
        return self._of(jac, xs).astype(xs[0].dtype)


@dataclass(frozen=True)
class Functions:
    """Residual and Jacobian.

    Attributes
    ----------
    residual : callable
        ``residual(*xs) -> (m,)``; it has traced the user's function once.
    jac : str or callable
        A method of `jaxlsq.numerics.jacobian`, or ``jac(*xs) -> (m, n)``.
    given : tuple
        What the user gave, of which these are made.
    bounds : Bounds or None
        That finite differences stay in.
    """

    residual: Callable[..., Any]
    jac: str | Callable[..., Any]
    given: tuple[Any, ...] = ()
    bounds: Bounds | None = None

    @classmethod
    def of(cls, fun: Callable[..., Any], jac: str | Callable[..., Any], call: Call) -> Self:
        """From what the user gave, which is traced once however often these are called."""
        jacobian = unstacked(partial(call.jacobian, jac)) if callable(jac) else jac
        return cls(unstacked(partial(call.residual, fun)), jacobian, (fun, jac, call))

    @property
    def differences(self) -> int:
        """Evaluations of the residual that one column of the Jacobian takes."""
        return 0 if callable(self.jac) else EVALUATIONS[self.jac]

    def linear(self, *xs: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Residual and columns."""
        if not callable(self.jac):
            bounds = self.bounds if self.differences else None
            return linearized(self.residual, self.jac, 0.0, bounds)(xs)
        rows, f = self.jac(*xs), self.residual(*xs)
        return f, jacobian_columns(rows, f, len(xs))


def typed(params: PyTree, dtypes: Iterable[np.dtype[Any]]) -> PyTree:
    """Parameters in their own types, and those that were integers as they are."""
    leaves, tree = jax.tree.flatten(params)
    leaves = [
        leaf.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else leaf
        for leaf, dtype in zip(leaves, dtypes, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)
