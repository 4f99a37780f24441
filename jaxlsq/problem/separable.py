"""Problems of which some parameters are linear, as problems of the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.numerics.elimination import best, eliminated
from jaxlsq.numerics.jacobian import EVALUATIONS, along
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.names import unknown_name
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import Parts
from jaxlsq.tracing.jaxprs import depends
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.unstack import unstacked

__all__ = ["Reduced", "check_separable", "linear_places"]


def linear_places(linear: Any, names: Sequence[str]) -> tuple[int, ...]:
    """The places of the parameters that are named to be linear, in their order.

    Raises
    ------
    TypeError, ValueError
        For what names none, or all, of the parameters.
    """
    if linear is None:
        return ()
    given = [linear] if isinstance(linear, str) else list(linear)
    for name in given:
        if name not in names:
            raise ValueError(unknown_name(name, tuple(names), "linear"))
    places = tuple(j for j, name in enumerate(names) if name in given)
    if len(places) == len(names):
        raise ValueError(
            "linear names all parameters: then the fit is one of linear algebra, as of "
            "numpy.linalg.lstsq. Leave it out, or name some."
        )
    return places


def check_separable(
    linear: Sequence[int], names: Sequence[str], limits: Limits | None, loss: Any, jac: Any
) -> None:
    """Raise ValueError for what does not go together with linear parameters.

    Parameters
    ----------
    linear : sequence of int
        Their places.
    names : sequence of str
    limits : Limits or None
    loss : Loss or None
    jac : str or callable
    """
    if not linear:
        return
    if loss is not None:
        raise ValueError(
            "linear needs least squares: with another loss the best linear parameters have no "
            "closed form. Leave linear out, or loss='linear'."
        )
    if callable(jac) or EVALUATIONS[jac]:
        raise ValueError("linear needs JAX's derivatives of the model: leave jac out.")
    if limits is None:
        return
    finite = np.isfinite(limits.lower) | np.isfinite(limits.upper) | limits.fixed
    for j in linear:
        if np.any(finite[..., j]):
            raise ValueError(
                f"linear names {names[j]!r}, which has bounds or is fixed; only parameters without "
                "either can be eliminated. Take it out of one of them."
            )


@dataclass(frozen=True)
class Reduced(Task):
    """A `Task` of the parameters that are not linear, with the best of the others.

    Attributes
    ----------
    full : Task
        Of all parameters.
    linear : tuple of int
        Places of the linear ones.
    """

    full: Any = None
    linear: tuple[int, ...] = ()

    @classmethod
    def of(cls, full: Task, linear: tuple[int, ...]) -> Self:
        """The task without its linear parameters."""
        others = full.layout.n - len(linear)
        return cls(
            layout=Layout.of((0.0,) * others),
            residual=full.residual,
            jac="jacfwd",
            check=full.check,
            repairs=full.repairs,
            full=full,
            linear=linear,
        )

    @cached_property
    def others(self) -> tuple[int, ...]:
        """Places of the parameters that are not linear."""
        return tuple(j for j in range(self.full.layout.n) if j not in self.linear)

    @property
    def eliminated(self) -> int:
        """How many parameters are."""
        return len(self.linear)

    def separate(self, lane: Parts, shared: Parts) -> Callable[..., Any]:
        """``separate(*xs) -> (f0, *basis)``, see `jaxlsq.numerics.elimination`."""
        whole = self._of_all(lane, shared)

        def separate(*xs):
            values = [jnp.zeros_like(xs[0])] * self.full.layout.n
            for j, x in zip(self.others, xs, strict=True):
                values[j] = x
            pairs = [along(whole, values, j) for j in self.linear]
            return pairs[0][0], *(tangent for _, tangent in pairs)

        return separate

    def coefficients(self, x: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
        """All parameters (n,), from those that are not linear."""
        f0, *basis = self.separate(lane, shared)(*x)
        values = dict(zip(self.others, x, strict=True))
        values |= dict(zip(self.linear, best(f0, basis).c, strict=True))
        return jnp.stack([values[j] for j in range(self.full.layout.n)])

    def mixed(self, lane: Parts, shared: Parts) -> tuple[tuple[int, int], ...]:
        """Which columns of linear parameters depend on which of the others, by their numbers.

        Parameters
        ----------
        lane, shared : dicts of arrays or of their shapes and types
        """
        n = len(self.others)
        xs = [jax.ShapeDtypeStruct((), lane["y"].dtype)] * n

        def basis(lane, shared, *xs):
            return self.separate(lane, shared)(*xs)[1:]

        jaxpr, _, _ = make_jaxpr(basis, lane, shared, *xs)
        still = [False] * (len(jaxpr.invars) - n)
        moves = [depends(jaxpr, [*still, *(i == j for i in range(n))]) for j in range(n)]
        return tuple((k, j) for k in range(len(self.linear)) for j in range(n) if moves[j][k])

    def with_mixed(
        self, lane: Parts, shared: Parts, mixed: Sequence[tuple[int, int]]
    ) -> Callable[..., Any]:
        """The residual of all parameters, its columns, and derivatives of linear columns.

        ``function(*values)`` is a tuple of (m,) arrays: the residual, n columns, and one for each
        of `mixed`.
        """
        whole = self._of_all(lane, shared)

        def function(*values):
            pairs = [along(whole, values, j) for j in range(self.full.layout.n)]

            def second(k, j):
                def column(*values):
                    return along(whole, values, self.linear[k])[1]

                return along(column, values, self.others[j])[1]

            return pairs[0][0], *(t for _, t in pairs), *(second(*pair) for pair in mixed)

        return function

    def check_linear(self, lane: Parts, shared: Parts, names: Sequence[str]) -> None:
        """Raise ValueError unless the residual is linear in the parameters that are said to be.

        By its structure: no derivative by one of them may be made of any of them.

        Parameters
        ----------
        lane, shared : dicts of arrays or of their shapes and types
        names : sequence of str
            Of all parameters.
        """
        n, dtype = self.full.layout.n, lane["y"].dtype

        def derivatives(lane, shared, *values):
            return [along(self._of_all(lane, shared), values, j)[1] for j in self.linear]

        jaxpr, _, _ = make_jaxpr(derivatives, lane, shared, *[jax.ShapeDtypeStruct((), dtype)] * n)
        still = [False] * (len(jaxpr.invars) - n)
        for j in self.linear:
            moved = depends(jaxpr, [*still, *(i == j for i in range(n))])
            for k, moves in zip(self.linear, moved, strict=True):
                if moves:
                    other = "itself" if j == k else repr(names[j])
                    raise ValueError(
                        f"linear names {names[k]!r}, but the model's derivative by it depends on "
                        f"{other}, as far as can be seen from its operations. Name only parameters "
                        "that the model is a sum of products with."
                    )

    def _linear(self, lane, shared):
        separate = self.separate(lane, shared)

        def evaluate(xs):
            jaxpr, _, _ = make_jaxpr(separate, *xs)
            moves = [depends(jaxpr, [i == j for i in range(len(xs))]) for j in range(len(xs))]
            return eliminated(separate, moves)(xs)

        return evaluate

    def _of_all(self, lane, shared):
        def whole(*values):
            return self.full.residual(self.full.layout.from_scalars(values), lane, shared)

        return unstacked(whole)
