"""Residual and Jacobian of all lanes at their trial points, as normal equations.

Columns of the Jacobian that depend neither on the parameters nor on a lane's data, those of
an offset or a slope, say, are the same for all lanes and all rounds.  They stay (m,): nothing is
written for them, and a sum with one reads half as much.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.loss import as_rows
from jaxlsq.numerics.loss import scaled as rescaled
from jaxlsq.numerics.norm import power_of_two
from jaxlsq.numerics.normal import Normal, normal_equations
from jaxlsq.numerics.repair import REPAIR_EVALUATIONS, difference_of, repair_points
from jaxlsq.problem.types import PyTree
from jaxlsq.tracing.fast import with_fast_functions
from jaxlsq.tracing.jaxprs import depends

__all__ = ["Equations", "Lane", "squares_are_safe"]


def squares_are_safe(dtype: Any) -> bool:
    """Whether residuals of any usual size can be squared: in float64, not in float32."""
    return jnp.finfo(dtype).maxexp > 1000


@dataclass(frozen=True)
class Lane:
    """One problem, as functions of its parameters and data that can be traced.

    Attributes
    ----------
    equations : callable
        ``equations(xs, data) -> rows, columns``, with xs a tuple of n scalars, rows the residual
        (m,), and with a loss its values (m,), and columns a sequence of the n columns (m,) of the
        Jacobian.  See `jaxlsq.numerics.loss.weighted`.
    plain : callable or None
        ``plain(xs, data) -> f, weight``: the residual (m,), of which the columns are derivatives
        but for the weight.  With it, derivatives that are not finite where f is are taken by
        differences.
    evaluations : int
        Evaluations of the residual that one Jacobian takes.
    """

    equations: Callable[..., Any]
    plain: Callable[..., Any] | None = None
    evaluations: int = 0

    @classmethod
    def of_outputs(
        cls, evaluated: Callable[..., Any], evaluations: int = 0, repairs: bool = True
    ) -> Self:
        """From one function of both.

        Parameters
        ----------
        evaluated : callable
            ``evaluated(xs, data)`` returns `jaxlsq.numerics.loss.summands`.
        evaluations : int
            Finite differences are taken as they are.
        repairs : bool
            Whether other derivatives that are not finite are taken by differences.
        """

        def equations(xs, data):
            return as_rows(evaluated(xs, data), len(xs))

        def plain(xs, data):
            out = evaluated(xs, data)
            if len(out) == len(xs) + 1:  # without a loss
                return out[0], jnp.ones_like(out[0])
            return out[-1], jnp.sqrt(out[1])

        return cls(equations, plain if repairs and not evaluations else None, evaluations)


@dataclass(frozen=True)
class Equations:
    """The normal equations as a function of the lanes' parameters and data.

    Attributes
    ----------
    lanes : callable
        ``lanes(xs, data) -> rows, columns`` of all lanes, with the columns that vary.
    steady : tuple
        For each of the n columns None, or the (m,) array that it is, over its size.
    sizes : tuple
        The sizes, powers of two.
    plain : callable or None
        ``plain(xs, data) -> f, weight`` of all lanes, for derivatives that are not finite.
    evaluations : int
        Evaluations of the residual that one Jacobian takes.
    """

    lanes: Callable[..., Any]
    steady: tuple[Any, ...]
    sizes: tuple[Any, ...]
    plain: Callable[..., Any] | None = None
    evaluations: int = 0

    @classmethod
    def of(cls, lane: Lane, n: int, dtype: Any, data: PyTree) -> Self:
        """For a `Lane`, and shapes of one lane's `data`."""
        xs = (jax.ShapeDtypeStruct((), dtype),) * n
        closed, shapes = jax.make_jaxpr(lane.equations, return_shape=True)(xs, data)
        moving = depends(closed.jaxpr, [True] * len(closed.jaxpr.invars))[-n:]

        def varying(xs, data):
            rows, columns = lane.equations(xs, data)
            return rows, tuple(c for c, moves in zip(columns, moving, strict=True) if moves)

        # Of this only the steady columns are read, and they read nothing of it.
        nowhere = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (xs, data))
        _, columns = lane.equations(*nowhere) if not all(moving) else shapes
        steady, sizes = [], []
        for column, moves in zip(columns, moving, strict=True):
            size = 1.0 if moves or squares_are_safe(dtype) else power_of_two(_largest(column))
            steady.append(None if moves else column / size)
            sizes.append(size)
        lanes = with_fast_functions(jax.vmap(varying))
        plain = lane.plain and jax.vmap(lane.plain)
        return cls(lanes, tuple(steady), tuple(sizes), plain, lane.evaluations)

    def fitting_sizes(self, sizes: jax.Array, unit: jax.Array) -> jax.Array:
        """Sizes of the parameters (B, n), exact where a steady column gives them."""
        for j, (column, size) in enumerate(zip(self.steady, self.sizes, strict=True)):
            sizes = sizes if column is None else sizes.at[:, j].set(unit / size)
        return sizes

    def __call__(
        self, pool: Any, stage: Callable[..., Any]
    ) -> tuple[Normal, jax.Array, int | jax.Array]:
        """The normal equations at the trial points of a pool, each part a `stage` of its own.

        Returns
        -------
        normal : Normal
        fnorm : (W,) array
        evaluations : int or (W,) int array
            What the Jacobian took, with derivatives that are not finite.
        """
        xs, scaled = tuple(pool.state.trial.x), not squares_are_safe(pool.unit.dtype)
        factors: list[Any] = [k / pool.unit if scaled else None for k in pool.sizes]
        moving = [k for k, s in zip(factors, self.steady, strict=True) if s is None]

        def evaluate(xs, data):
            rows, columns = self.lanes(xs, data)
            if scaled:
                rows = rescaled(rows, (1.0 / pool.unit)[:, None])
                columns = [c * k[:, None] for c, k in zip(columns, moving, strict=True)]
            return rows, tuple(columns)

        rows, varying = stage(evaluate, None, xs, pool.data)
        varying = iter(varying)
        columns = tuple(next(varying) if s is None else s for s in self.steady)
        left = [
            None if s is None or not scaled else k * size
            for s, k, size in zip(self.steady, factors, self.sizes, strict=True)
        ]
        normal, fnorm = stage(normal_equations, None, columns, rows, pool.unit, pool.sizes, left)
        plain = self.plain
        if plain is None:
            return normal, fnorm, self.evaluations
        n = len(columns)
        infinite = jnp.stack([~jnp.isfinite(normal.gram[j, j]) for j in range(n)])
        infinite = infinite & jnp.isfinite(fnorm)

        def repair(normal):
            return self._repaired(plain, pool, (columns, rows[0]), factors, infinite, normal)

        normal = lax.cond(jnp.any(infinite), repair, lambda normal: normal, normal)
        count = REPAIR_EVALUATIONS * jnp.sum(infinite, axis=0, dtype=jnp.int32)
        return normal, fnorm, self.evaluations + count

    def _repaired(self, plain, pool, equations, factors, infinite, normal):
        """The normal equations with differences for derivatives that are not finite."""
        columns, f = equations
        x, n = pool.state.trial.x, len(columns)
        ahead, behind = repair_points(x, pool.bounds)
        here, weight = plain(tuple(x), pool.data)
        index = jnp.arange(n)[:, None]

        def difference(j):
            def at(place):
                return plain(tuple(jnp.where(index == j, place, x)), pool.data)[0]

            steps = (x[j] - behind[j])[:, None], (ahead[j] - x[j])[:, None]
            return weight * difference_of((at(behind), here, at(ahead)), steps)

        differences = lax.map(difference, jnp.arange(n))
        whole = []
        for j, column in enumerate(columns):
            known = column if self.steady[j] is None else column * self.sizes[j]
            known = jnp.broadcast_to(known, f.shape)
            factor = factors[j]
            scale = 1.0 if factor is None else factor[:, None]
            if self.steady[j] is not None:
                known = known * scale
            whole.append(jnp.where(jnp.isfinite(known), known, differences[j] * scale))
        stacked = jnp.stack(whole)
        gram = jnp.einsum("iwm,jwm->ijw", stacked, stacked, precision="highest")
        gradient = jnp.einsum("iwm,wm->iw", stacked, f, precision="highest")
        lanes = jnp.any(infinite, axis=0)
        return Normal(
            jnp.where(lanes, gram, normal.gram),
            jnp.where(lanes, gradient, normal.gradient),
            normal.unit,
            normal.sizes,
        )


def _largest(v):
    return jnp.max(jnp.abs(v), initial=0.0)
