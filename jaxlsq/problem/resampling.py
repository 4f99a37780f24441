"""Data sets that are made of a fit: what a bootstrap fits in the place of the data."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.checks import check_known

__all__ = ["KINDS", "FittedPoints", "Plan", "Replicates"]

KINDS = ("residual", "pairs", "parametric")
# Replicates of one generator: a read that begins between two of them draws fewer than that in vain,
# and the time to make a generator is shared by as many.
CHUNK = 64
LARGEST_SEED = 1 << 64
# Beyond, counts are no longer whole numbers in float64, and NumPy's Poisson raises.
LARGEST_MEAN = 2.0**53


@dataclass(frozen=True)
class Plan:
    """How a bootstrap makes data sets.

    Attributes
    ----------
    k : int
        Data sets made of each fit.
    kind : {'residual', 'pairs', 'parametric'}
    seed : int

    Examples
    --------
    >>> Plan.of(1, "pairs", 0)
    Traceback (most recent call last):
        ...
    ValueError: k must be at least 2 data sets for each fit, got 1.
    """

    k: int
    kind: str
    seed: int

    @classmethod
    def of(cls, k: Any, kind: Any, seed: Any) -> "Plan":
        """From the caller's arguments, checked.

        Raises
        ------
        TypeError, ValueError
        """
        for name, value in (("k", k), ("seed", seed)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name} must be a whole number, got {value!r}.")
        if k < 2:
            raise ValueError(f"k must be at least 2 data sets for each fit, got {k}.")
        if not 0 <= seed < LARGEST_SEED:
            raise ValueError(f"seed must be from 0 to 2**64 - 1, got {seed}.")
        check_known("kind", kind, KINDS)
        return cls(int(k), kind, int(seed))


@dataclass(frozen=True)
class FittedPoints:
    """The points of some fits, (c, m) arrays; of one fit, of those that count alone, (m,) arrays.

    Attributes
    ----------
    fitted : array
        The model.
    errors : array
        Data minus model over sigma, whose mean over a data set's points that have a weight is zero.
    sigma : array
        Ones where it is not given; infinite where a point has no weight.
    live : array
        Which points count.
    ydata : array
    scale : array
        `f_scale` of a robust loss; ones without.
    spread : (c,) array
        By which sigma is multiplied to be the data's standard deviation.
    factors : (m, m) or (c, m, m) array, optional
        Cholesky factors of the data's covariances, where those were given for sigma.
    """

    fitted: NDArray[Any]
    errors: NDArray[Any]
    sigma: NDArray[Any]
    live: NDArray[Any]
    ydata: NDArray[Any]
    scale: NDArray[Any]
    spread: NDArray[Any]
    factors: NDArray[Any] | None = None

    @classmethod
    def of(
        cls, table: NDArray[Any], spread: NDArray[Any], factors: NDArray[Any] | None
    ) -> "FittedPoints":
        """From (c, 6, m), the first six arrays with errors that are not centred."""
        fitted, errors, sigma, live, ydata, scale = np.moveaxis(table.astype(np.float64), 1, 0)
        live = live > 0
        weighed = live & np.isfinite(sigma)
        count = np.maximum(np.count_nonzero(weighed, axis=-1), 1)
        mean = np.sum(np.where(weighed, errors, 0.0), axis=-1) / count
        errors = np.where(weighed, errors - mean[:, None], 0.0)
        return cls(fitted, errors, sigma, live, ydata, scale, spread, factors)

    def one(self, fit: int) -> "FittedPoints":
        """The points that count of one fit."""
        live = self.live[fit]
        names = ("fitted", "errors", "sigma", "live", "ydata", "scale")
        arrays = {name: getattr(self, name)[fit][live] for name in names}
        factors = self.factors
        if factors is not None and factors.ndim == 3:
            factors = factors[fit]
        return FittedPoints(**arrays, spread=self.spread[fit], factors=factors)

    def correlated(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Errors in units of the data, from those in units of their standard deviations.

        Of a point without a weight it is zero: any does, as long as it is finite.
        """
        if self.factors is not None:
            return rows @ self.factors.T
        return rows * np.where(np.isfinite(self.sigma), self.sigma, 0.0)


@dataclass(frozen=True)
class Replicates:
    """An array (c * k, m) of c fits with k data sets each, which are made when they are read.

    A data set's stream of random numbers is that of the seed, the data, and its number among the
    k.  So it is the same whatever is read, by whom, and whatever else is in the batch.  (Of the
    same data twice in a batch the data sets are the same.)

    Attributes
    ----------
    points : FittedPoints
    make : callable
        ``make(one, rng, rows) -> (rows, m)`` for the points of one fit that count.
    plan : Plan
    dtype : dtype
    rest : float
        At points that do not count.
    """

    points: FittedPoints
    make: Callable[[FittedPoints, np.random.Generator, int], NDArray[Any]]
    plan: Plan
    dtype: np.dtype[Any]
    rest: float = np.nan

    @property
    def array(self) -> NDArray[Any]:
        """What it is made of, which several threads may read."""
        return self.points.fitted

    @property
    def shape(self) -> tuple[int, int]:
        """Of all data sets."""
        fits, m = self.points.fitted.shape
        return fits * self.plan.k, m

    def __getitem__(self, index: slice) -> NDArray[Any]:
        first, last, _ = index.indices(self.shape[0])
        k, out = self.plan.k, np.full((last - first, self.shape[1]), self.rest, self.dtype)
        for fit in range(first // k, -(-last // k)):
            begin, end = max(first, fit * k), min(last, (fit + 1) * k)
            made, live = self._of_one(fit, begin - fit * k, end - fit * k), self.points.live[fit]
            # A slice is several times faster than a selection.
            out[begin - first : end - first, slice(None) if live.all() else live] = made
        return out

    def _of_one(self, fit, first, last):
        """Data sets `first` to `last` of one fit, at the points that count."""
        one = self.points.one(fit)
        data = one.ydata.tobytes()
        stream = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
        key, parts = np.array([self.plan.seed, stream], np.uint64), []
        for chunk in range(first // CHUNK, -(-last // CHUNK)):
            counter = np.array([0, chunk, 0, 0], np.uint64)
            rng = np.random.Generator(np.random.Philox(counter=counter, key=key))
            end = min(last - chunk * CHUNK, CHUNK)
            parts.append(self.make(one, rng, end)[max(first - chunk * CHUNK, 0) :])
        return np.concatenate(parts) if parts else np.empty((0, one.fitted.size))


def of_residuals(one: FittedPoints, rng: np.random.Generator, rows: int) -> NDArray[Any]:
    """The model, and errors that are drawn from those of the fit with replacement."""
    errors = one.errors[np.isfinite(one.sigma)]
    places = rng.integers(0, errors.size, (rows, one.fitted.size))
    return one.fitted + one.correlated(errors[places])


def of_normal(one: FittedPoints, rng: np.random.Generator, rows: int) -> NDArray[Any]:
    """The model, and errors of a normal distribution."""
    errors = rng.standard_normal((rows, one.fitted.size))
    return one.fitted + one.spread * one.correlated(errors)


def of_counts(one: FittedPoints, rng: np.random.Generator, rows: int) -> NDArray[Any]:
    """Counts of Poisson's distribution, whose mean is the model; NaN where that can't be."""
    good = (one.fitted >= 0) & (one.fitted <= LARGEST_MEAN)
    counts = rng.poisson(np.where(good, one.fitted, 0.0), (rows, one.fitted.size))
    return np.where(good, counts, np.nan)


def multiplicities(one: FittedPoints, rng: np.random.Generator, rows: int) -> NDArray[Any]:
    """How often each point is drawn, of as many draws with replacement as there are points."""
    m = one.fitted.size
    places = rng.integers(0, m, (rows, m)) + m * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * m).reshape(rows, m).astype(np.float64)


def sigma_of_pairs(one: FittedPoints, rng: np.random.Generator, rows: int) -> NDArray[Any]:
    """Sigma of points that count as often as they are drawn; NaN where that is never."""
    drawn = multiplicities(one, rng, rows)
    return np.where(drawn > 0, one.sigma / np.sqrt(np.maximum(drawn, 1.0)), np.nan)


def scale_of_pairs(one: FittedPoints, rng: np.random.Generator, rows: int) -> NDArray[Any]:
    r"""A loss's scale, so that :math:`w C^2 \rho(r^2 / C^2)` is that of :math:`\sqrt w r`."""
    return one.scale * np.sqrt(np.maximum(multiplicities(one, rng, rows), 1.0))


def counts_of_pairs(one: FittedPoints, rng: np.random.Generator, rows: int) -> NDArray[Any]:
    """Counts times how often each is drawn; NaN where that is never."""
    drawn = multiplicities(one, rng, rows)
    return np.where(drawn > 0, drawn * one.ydata, np.nan)
