"""Errors of fits by fitting again what is made of them: the bootstrap."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.checks import check_known
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.types import Batch, PyTree
from jaxlsq.results.intervals import check_level, numbers_of
from jaxlsq.results.samples import quantiles

__all__ = ["Bootstrap"]

_NORMAL = NormalDist()
METHODS = ("percentile", "bca")


@dataclass(frozen=True, repr=False, eq=False)
class Bootstrap:
    """The distribution of parameters over fits of data sets made of each fit.

    Every array has the batch's shape in front.  NaN for fits that did not converge, and for those
    without degrees of freedom, of which no data are made.

    Attributes
    ----------
    x : (..., n) array
        Parameters of the fit.
    k : int
        Data sets made of each fit.
    kind : {'residual', 'pairs', 'parametric'}
    seed : int
    cov : (..., n, n) array
        Covariance of the parameters over the replicates.
    failed : (...) int array
        How many replicates did not converge; they are left out.
    samples : (..., k, n) array or None
        Their parameters, NaN where they failed; where they were asked for.
    layout : Layout
    names : tuple of str
    mean : (..., n) array
        Of the replicates.
    table : (..., n, q) array
        Quantiles minus x, at the probabilities of `jaxlsq.results.samples.GRID`.
    below : (..., n) array
        The part of the replicates below the fit's own parameter.
    acceleration : (..., n) array
        A sixth of the distribution's skewness, from the empirical influence of the points.
    """

    x: NDArray[Any]
    k: int
    kind: str
    seed: int
    cov: NDArray[Any]
    failed: NDArray[Any]
    samples: NDArray[Any] | None
    layout: Layout
    names: tuple[str, ...]
    mean: NDArray[Any]
    table: NDArray[Any]
    below: NDArray[Any]
    acceleration: NDArray[Any]

    @property
    def shape(self) -> Batch:
        """The shape of the batch."""
        return self.failed.shape

    @property
    def stderr(self) -> PyTree:
        """Standard deviations of the replicates' parameters, in the form of `params`."""
        return self.layout.unpack(self._errors)

    @property
    def _errors(self):
        return np.sqrt(np.diagonal(self.cov, axis1=-2, axis2=-1))

    @property
    def bias(self) -> PyTree:
        """Mean of the replicates' parameters minus the fit's, in the form of `params`."""
        return self.layout.unpack(self.mean - self.x)

    def interval(
        self, level: float = 0.95, params: Any = None, method: str = "bca"
    ) -> NDArray[Any]:
        r"""Confidence intervals of the parameters.

        'percentile': the quantiles at :math:`(1 - \text{level}) / 2` and
        :math:`(1 + \text{level}) / 2`.  'bca', corrected for bias and skewness: those at

        .. math:: \Phi\left(z_0 + \frac{z_0 \pm z}{1 - a (z_0 \pm z)}\right), \quad
                  z = \Phi^{-1}\left(\frac{1 + \text{level}}{2}\right)

        where :math:`\Phi(z_0)` is the part of the replicates below the fit, those equal to it
        counted half, and a the `acceleration`.  Source: B. Efron, JASA 82, 171 (1987).

        Parameters
        ----------
        level : float
            Probability that an interval holds the truth.
        params : sequence of names or numbers, or one, optional
            Which parameters; all in their order if not given.
        method : {'bca', 'percentile'}

        Returns
        -------
        (..., p, 2) array
            Lower and upper ends.  Of a fixed parameter both are its value.  NaN for 'bca' where
            all replicates are on one side of the fit.

        Raises
        ------
        ValueError, TypeError
            For another method or name, and for a level beyond what k replicates can tell.
        """
        check_known("method", method, METHODS)
        check_level(level)
        tail = 0.5 * (1.0 - float(level))
        if tail * (self.k + 1) < 1.0:
            raise ValueError(
                f"level={level} needs k of at least {math.ceil(1.0 / tail - 1e-9) - 1} replicates, "
                f"got {self.k}."
            )
        chosen = numbers_of(params, self.names)
        z = np.array([_NORMAL.inv_cdf(tail), -_NORMAL.inv_cdf(tail)])
        shape = (*self.shape, len(chosen), 2)
        if method == "bca":
            z0 = _normal_quantiles(self.below[..., chosen])[..., None]
            shifted = z0 + z
            with np.errstate(invalid="ignore", divide="ignore"):
                share = 1.0 - self.acceleration[..., chosen, None] * shifted
                z = z0 + shifted / np.where(share > 0, share, np.nan)
        apart = quantiles(self.table[..., chosen, :], np.broadcast_to(z, shape))
        return self.x[..., chosen, None] + apart

    def __repr__(self) -> str:
        fits = self.failed.size
        noun = "fit" if fits == 1 else "fits"
        lines = [f"Bootstrap ({self.kind}): {self.k:,} replicates of {fits:,} {noun}"]
        none = int(np.count_nonzero(self.failed == self.k))
        if none:
            lines.append(f"  {none:,} without: they did not converge, or fit their data exactly")
        failed = self.failed[(self.failed > 0) & (self.failed < self.k)]
        if failed.size:
            lines.append(f"  {failed.sum():,} replicates failed, of {failed.size:,}; left out")
        known = np.isfinite(self._errors).all(axis=-1)
        if not known.any():
            return "\n".join(lines)
        head = "value         error        bias" if fits == 1 else "median error  median bias"
        lines.append(f"  parameter     {head}")
        bias = (self.mean - self.x)[known]
        for j, name in enumerate(self.names):
            numbers = (np.median(self._errors[known][:, j]), np.median(bias[:, j]))
            numbers = (self.x[known][0, j], *numbers) if fits == 1 else numbers
            lines.append(f"  {name:<12}" + "".join(f"  {v:<12.5g}" for v in numbers).rstrip())
        return "\n".join(lines)


def _normal_quantiles(p: NDArray[Any]):
    """The normal distribution's quantiles of many probabilities; NaN for zero, one and NaN."""

    def one(p: float):
        return _NORMAL.inv_cdf(p) if 0.0 < p < 1.0 else math.nan

    return np.fromiter(map(one, p.ravel().tolist()), float, p.size).reshape(p.shape)
