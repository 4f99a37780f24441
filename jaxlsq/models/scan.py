r"""`Scan`: a guess by linear least squares over candidates of what is not linear.

A model :math:`\sum_k c_k \phi_k(x; \theta)` has a best c in closed form for each :math:`\theta`
(variable projection). A `Scan` tries some tens to some hundreds of :math:`\theta`, laid out over
the range of x, takes the one whose sum of squares is least, and looks around it once or twice
again. It needs no derivative, no sorted x and no clean data; what a guess costs is that of some
tens of evaluations of the model.

Source: G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least
squares problems whose variables separate", SIAM J. Numer. Anal. 10 (1973) 413-432.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.models.columns import alone, changes, orthonormal, without
from jaxlsq.models.once import compiled_once
from jaxlsq.models.sample import Sample, sample_of, scaled

__all__ = ["Found", "Scan", "better"]

# Candidates that are worked side by side.
_CHUNK = 8

# By how much the sum of squares changes, values of a candidate, coefficients of its columns.
Found = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Scan:
    """A guess that tries candidates.

    Attributes
    ----------
    candidates : callable
        ``candidates(sample) -> values``: (k,) arrays, one for each nonlinear parameter. Or a list
        of such: of those that do not depend on y, a batch with one x computes the columns once.
    columns : callable
        ``columns(x, *values) -> (m,) arrays`` of one candidate, of about one at their largest.
    assemble : callable
        ``assemble(sample, values, coefficients) -> dict`` of the parameters.
    around : callable or None
        ``around(sample, round, *values) -> values``: candidates near the best one.
    rounds : int
        How often that is asked.
    placed : bool
        Whether the first two values are a place in x and a width.
    variables : int
        Of a point.
    """

    candidates: Callable[..., Any]
    columns: Callable[..., Any]
    assemble: Callable[..., dict[str, Any]]
    around: Callable[..., Any] | None = None
    rounds: int = 1
    placed: bool = False
    variables: int = 1

    @compiled_once
    def __call__(self, x: Any, y: Any) -> dict[str, jax.Array]:
        sample, size = scaled(sample_of(x, y))
        _, values, coefficients = self.refined(sample, self.searched(sample))
        columns = [jnp.asarray(c, sample.y.dtype) for c in self.columns(sample.x, *values)]
        coefficients = alone(columns, sample.y, sample.weights, coefficients)
        return self.params(sample, values, [c * size for c in coefficients])

    def params(self, sample: Sample, values: Any, coefficients: Any) -> dict[str, jax.Array]:
        """The parameters of a candidate and of its columns' coefficients."""
        found = self.assemble(sample, values, coefficients)
        most = jnp.finfo(sample.y.dtype).max  # of x far from zero an amplitude there may be more
        clipped = {name: jnp.clip(v, -most, most) for name, v in found.items()}
        return {name: jnp.asarray(v, sample.y.dtype) for name, v in clipped.items()}

    def searched(
        self,
        sample: Sample,
        others: jax.Array | None = None,
        allowed: Callable[..., Any] | None = None,
    ) -> Found:
        """The best candidate beside orthonormal columns.

        Where given, ``allowed(values, coefficients)`` says which may be taken.

        Raises
        ------
        ValueError
            For points of more or fewer variables.
        """
        sample.check_variables(self.variables)
        others = orthonormal((), sample) if others is None else others
        seen = replace(sample, y=without(sample.y, others))
        found = self.candidates(seen)
        several = found if isinstance(found, list) else [found]
        bests = [self._best(seen, values, others, allowed) for values in several]
        return reduce(better, bests)

    def refined(
        self,
        sample: Sample,
        best: Found,
        others: jax.Array | None = None,
        first: Any = 0,
        rounds: int = 0,
        allowed: Callable[..., Any] | None = None,
    ) -> Found:
        """The best of those around one, in rounds from the first on, which are ever closer."""
        others = orthonormal((), sample) if others is None else others
        seen, around = replace(sample, y=without(sample.y, others)), self.around
        if around is None:
            return best

        def closer(number: Any, best: Any):
            near = around(seen, first + number, *best[1])
            return better(best, self._best(seen, near, others, allowed))

        return lax.fori_loop(0, rounds or self.rounds, closer, best)

    def measured(self, sample: Sample, values: Any, others: jax.Array) -> Found:
        """One candidate beside orthonormal columns."""
        seen = replace(sample, y=without(sample.y, others))
        return self._best(seen, tuple(v[None] for v in values), others, None)

    def _best(
        self,
        sample: Sample,
        values: tuple[Any, ...],
        others: Any,
        allowed: Callable[..., Any] | None,
    ):
        dtype, count = sample.y.dtype, len(values[0])
        rows = -(-count // _CHUNK)
        chunk = -(-count // rows)
        places = np.minimum(np.arange(rows * chunk), count - 1).reshape(rows, chunk)
        chunks = [jnp.asarray(v, dtype)[places] for v in values]

        def tried(best: Any, some: Any):
            columns = jax.vmap(lambda *v: tuple(self.columns(sample.x, *v)))(*some)
            change, found = changes([jnp.asarray(c, dtype) for c in columns], sample, others)
            if allowed is not None:
                change = jnp.where(allowed(some, found), change, jnp.inf)
            k = jnp.argmin(change)
            new = (change[k], tuple(v[k] for v in some), tuple(c[k] for c in found))
            return better(best, new), None

        first = tuple(v[0, 0] for v in chunks)
        width = len(jax.eval_shape(lambda: tuple(self.columns(sample.x, *first))))
        zeros = tuple(jnp.zeros((), dtype) for _ in range(width))
        start = (jnp.asarray(jnp.inf, dtype), first, zeros)
        return lax.scan(tried, start, tuple(chunks))[0]


def better(old: Any, new: Any) -> Any:
    """That of two trees whose first entry is less."""
    return jax.tree.map(lambda a, b: jnp.where(new[0] < old[0], b, a), old, new)
