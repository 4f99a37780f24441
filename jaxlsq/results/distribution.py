"""Distributions of parameters, of more fits than are kept."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxlsq.results.result import FitResult
from jaxlsq.status import Status

__all__ = ["Distribution", "Histogram"]

# How far a range that is not given reaches beyond what is seen first, by its width.
MARGIN = 1.0


class Histogram(NamedTuple):
    """Counts of values between edges, and of those outside of all."""

    edges: NDArray[Any]
    counts: NDArray[Any]
    below: int
    above: int


class Distribution:
    r"""Means, standard deviations, histograms and quantiles of parameters, for ``fit(out=...)``.

    Of the fits that converged.  Means and deviations are exact (Chan, Golub and LeVeque's updates
    of :math:`\sum_i (p_i - \bar p)^2`); quantiles are as exact as the bins are narrow.

    Parameters
    ----------
    bins : int
        Of each histogram.
    ranges : dict of pairs, optional
        ``{name: (lower, upper)}`` of histograms.  A range that is not given is that of the first
        portion's fits, and as much again on both sides; what is outside is counted as such.

    Attributes
    ----------
    names : tuple of str
    count : int
        Fits that converged.
    counts : dict
        How many fits ended with each status.
    mean, std : (n,) arrays
        NaN where there is none, or one alone.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxlsq import Distribution, fit
    >>> t = np.linspace(0, 4, 50)
    >>> rates = np.linspace(0.5, 1.5, 1001)
    >>> y = 3.0 * np.exp(-rates[:, None] * t)
    >>> out = fit(lambda t, a, k: a * jnp.exp(-k * t), t, y, [1.0, 1.0], out=Distribution())
    >>> out.mean.round(6)
    array([3., 1.])
    >>> out.quantile([0.25, 0.5], "k").round(2)
    array([0.75, 1.  ])
    """

    def __init__(self, bins: int = 1000, ranges: Mapping[str, tuple[float, float]] | None = None):
        self.bins: int = _positive(bins)
        self.ranges: dict[str, tuple[float, float]] = dict(ranges or {})
        for name, pair in self.ranges.items():
            low, high = np.asarray(pair, float) if np.shape(pair) == (2,) else (1.0, 0.0)
            if not (low < high and np.isfinite(high - low)):
                raise ValueError(f"ranges[{name!r}] must be (lower, upper), got {pair!r}.")
        self.names: tuple[str, ...] = ()
        self.count: int = 0
        self._statuses: Counter[int] = Counter()
        self._mean = self._squares = np.empty(0)
        self._edges: list[NDArray[Any] | None] = []
        self._inside = np.empty((0, 0), np.int64)

    def add(self, result: FitResult) -> None:
        """Take in some fits."""
        if not self.names:
            self._begin(result.names)
        if result.names != self.names:
            raise ValueError(
                f"these are fits of {result.names}, and those before were of {self.names}."
            )
        self._statuses.update(result.status.ravel().tolist())
        x = result.x[result.success].astype(np.float64).reshape(-1, len(self.names))
        if len(x):
            self._update(x)

    def _begin(self, names: tuple[str, ...]):
        unknown = [name for name in self.ranges if name not in names]
        if unknown:
            raise ValueError(f"ranges names {unknown}, and the parameters are {names}.")
        self.names, n = names, len(names)
        self._mean, self._squares = np.zeros(n), np.zeros(n)
        self._edges = [None] * n
        self._inside = np.zeros((n, self.bins + 2), np.int64)

    def _update(self, x: NDArray[Any]):
        mean = x.mean(axis=0)
        squares = np.square(x - mean).sum(axis=0)
        total = self.count + len(x)
        apart = mean - self._mean
        self._squares = self._squares + squares + apart**2 * (self.count * len(x) / total)
        self._mean = self._mean + apart * (len(x) / total)
        self.count = total
        for j, name in enumerate(self.names):
            edges = self._edges[j]
            if edges is None:
                edges = self._edges[j] = self._first_edges(name, x[:, j])
            # The upper edge is in the last bin.
            places = np.searchsorted(edges, x[:, j], side="right")
            places[x[:, j] == edges[-1]] = self.bins
            self._inside[j] += np.bincount(places, minlength=self.bins + 2)

    def _first_edges(self, name: str, values: NDArray[Any]):
        if name in self.ranges:
            return np.linspace(*self.ranges[name], self.bins + 1)
        low, high = float(values.min()), float(values.max())
        margin = MARGIN * (high - low) or max(abs(low), 1.0) * 1e-6
        return np.linspace(low - margin, high + margin, self.bins + 1)

    @property
    def counts(self) -> dict[Status, int]:
        """How many fits ended with each status, the most frequent first."""
        return {Status(code): number for code, number in self._statuses.most_common()}

    @property
    def mean(self) -> NDArray[Any]:
        """Means, (n,)."""
        return self._mean if self.count else np.full(len(self.names), np.nan)

    @property
    def std(self) -> NDArray[Any]:
        """Standard deviations, (n,), with one less than the number of fits below."""
        if self.count < 2:
            return np.full(len(self.names), np.nan)
        return np.sqrt(self._squares / (self.count - 1))

    def _number(self, name: str):
        if name not in self.names:
            raise ValueError(f"the parameters are {self.names}, got {name!r}.")
        return self.names.index(name)

    def histogram(self, name: str) -> Histogram:
        """The histogram of one parameter."""
        j = self._number(name)
        edges = self._edges[j]
        edges = np.full(self.bins + 1, np.nan) if edges is None else edges
        below, *inside, above = self._inside[j].tolist()
        return Histogram(edges, np.array(inside), below, above)

    def quantile(self, q: ArrayLike, name: str) -> Any:
        """Quantiles of one parameter, to a part of a bin.

        Parameters
        ----------
        q : float or array
            From 0 to 1.
        name : str

        Returns
        -------
        float or array
            -inf and inf for those that are outside of the histogram's range, NaN without fits.
        """
        q = np.asarray(q, float)
        if not np.all((q >= 0) & (q <= 1)):
            raise ValueError(f"q must be from 0 to 1, got {q}.")
        edges, counts, below, _ = self.histogram(name)
        if not self.count:
            return np.full(q.shape, np.nan)[()]
        cumulative = below + np.concatenate([[0], np.cumsum(counts)])
        wanted = q * self.count
        values = np.interp(wanted, cumulative, edges)
        values = np.where(wanted < cumulative[0], -np.inf, values)
        return np.where(wanted > cumulative[-1], np.inf, values)[()]

    def __repr__(self) -> str:
        total = sum(self._statuses.values())
        lines = [f"Distribution: {total:,} fits, {self.count:,} converged"]
        head = f"  {'parameter':<12}{'mean':<12}{'std':<12}{'5 %':<12}{'median':<12}95 %"
        lines += [head] if self.names else []
        for j, name in enumerate(self.names):
            numbers = self.mean[j], self.std[j], *self.quantile([0.05, 0.5, 0.95], name)
            lines.append(f"  {name:<12}" + "".join(f"{v:<12.5g}" for v in numbers))
        return "\n".join(line.rstrip() for line in lines)


def _positive(bins: Any) -> int:
    if not isinstance(bins, (int, np.integer)) or bins < 1:
        raise ValueError(f"bins must be a positive whole number, got {bins!r}.")
    return int(bins)
