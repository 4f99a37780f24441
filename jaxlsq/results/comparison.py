"""Models that were fitted to the same data, compared fit by fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Labels
from jaxlsq.results.quantiles import beyond_chi2, beyond_f
from jaxlsq.results.result import FitResult
from jaxlsq.results.statistics import criteria
from jaxlsq.results.tables import frame_of
from jaxlsq.results.wholes import wholes

__all__ = ["Comparison", "Significance", "compare"]

# By how much, relatively, the larger model may be worse for want of digits.
ROUNDING: dict[np.dtype[Any], float] = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-7}


class Significance(NamedTuple):
    """A statistic, and the probability of a larger one if the smaller model is true."""

    statistic: NDArray[Any]
    p: NDArray[Any]


@dataclass(frozen=True, repr=False)
class Comparison:
    """What speaks for each of several models, by data set.

    Attributes
    ----------
    names : tuple of str
        Of the M models.
    chi2, dof, varying : (..., M) arrays
        As of their results; `varying` are the parameters that were fitted.
    aicc, bic : (..., M) arrays
        As of their results; NaN where a fit did not converge.
    delta : (..., M) array
        `aicc` above the smallest one of the data set.
    weight : (..., M) array
        Akaike's weights, :math:`e^{-\\Delta / 2}` over their sum: the probability of each model to
        be the best one of these.  Zero where a fit did not converge, NaN where none did.
    best : (...) int array
        Which model has the smallest `aicc`; -1 where no fit converged.
    known : bool
        Whether the variance is known: of counts, and with ``absolute_sigma``.
    of_counts : bool
    rounding : float
        By how much, relatively, the larger of two models may be worse for want of digits.
    labels : Labels or None
        Of the batch's axes.
    """

    names: tuple[str, ...]
    chi2: NDArray[Any]
    dof: NDArray[Any]
    varying: NDArray[Any]
    aicc: NDArray[Any]
    bic: NDArray[Any]
    delta: NDArray[Any]
    weight: NDArray[Any]
    best: NDArray[Any]
    known: bool
    of_counts: bool
    rounding: float
    labels: Labels | None = None

    def f_test(self, smaller: str | int, larger: str | int) -> Significance:
        r"""Whether the larger of two nested models is better by more than by chance.

        .. math:: F = \frac{(\chi_1^2 - \chi_2^2) / (n_2 - n_1)}{\chi_2^2 / \nu_2}

        Parameters
        ----------
        smaller, larger : str or int
            Names or numbers of models.  The first must be a special case of the second.

        Returns
        -------
        Significance
            ``statistic`` and ``p``, (...) arrays: NaN where a fit did not converge, where there are
            no degrees of freedom, and where the larger model is the worse one, which it is not at
            its minimum.

        Raises
        ------
        ValueError
            For an unknown model, for a `larger` without more parameters, and of counts, whose
            variance is known: there take `likelihood_ratio`.
        """
        if self.of_counts:
            raise ValueError("an F test is for an unknown variance; of counts: likelihood_ratio.")
        one, two, more = self._pair(smaller, larger)
        fall, dof = self._fall(one, two), self.dof[..., two]
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = fall / more / (self.chi2[..., two] / np.where(dof > 0, dof, np.nan))
        return Significance(statistic, beyond_f(statistic, more, dof)[()])

    def likelihood_ratio(self, smaller: str | int, larger: str | int) -> Significance:
        r"""Twice the logarithm of the ratio of two nested models' likelihoods.

        .. math:: N \ln(\chi_1^2 / \chi_2^2) \quad \text{or, of a known variance,} \quad
                  \chi_1^2 - \chi_2^2

        which is, for many points, distributed as chi-squared with :math:`n_2 - n_1` degrees of
        freedom if the smaller model is true.

        Parameters
        ----------
        smaller, larger : str or int
            As of `f_test`.

        Returns
        -------
        Significance
            ``statistic`` and ``p``, (...) arrays; NaN as of `f_test`.

        Raises
        ------
        ValueError
            For an unknown model, and for a `larger` without more parameters.
        """
        one, two, more = self._pair(smaller, larger)
        statistic = self._fall(one, two)
        if not self.known:
            points = self.dof[..., two] + self.varying[..., two]
            with np.errstate(divide="ignore", invalid="ignore"):
                statistic = points * np.log1p(statistic / self.chi2[..., two])
        return Significance(statistic, beyond_chi2(statistic, more)[()])

    def _pair(self, smaller: int | str, larger: int | str):
        """Numbers of two models, and by how many parameters the second has more, (...)."""
        one, two = self._number(smaller), self._number(larger)
        more = self.varying[..., two] - self.varying[..., one]
        if not np.all(more > 0):
            raise ValueError(
                f"the larger model must have more parameters: {self.names[two]!r} has "
                f"{np.min(self.varying[..., two])}, and {self.names[one]!r} has "
                f"{np.max(self.varying[..., one])}."
            )
        return one, two, more

    def _number(self, model: int | str):
        if isinstance(model, str) and model in self.names:
            return self.names.index(model)
        if isinstance(model, (int, np.integer)) and 0 <= model < len(self.names):
            return int(model)
        raise ValueError(f"the models are {self.names}, or numbers from 0; got {model!r}.")

    def _fall(self, one: int, two: int):
        """What chi-squared falls by, NaN where it does not or a fit did not converge."""
        both = ~np.isnan(self.aicc[..., one]) & ~np.isnan(self.aicc[..., two])
        first, second = self.chi2[..., one], self.chi2[..., two]
        good = both & (second <= first * (1.0 + self.rounding))
        return np.where(good, np.maximum(first - second, 0.0), np.nan)

    def to_frame(self, library: str | None = None) -> Any:
        """A DataFrame with a row for each data set: the best model, and what speaks for each.

        Its columns are ``best``, and ``chi2 aicc delta weight bic`` with a model's name behind.

        Parameters
        ----------
        library : {'pandas', 'polars'}, optional
            Whose; the first of the two that is installed if not given.

        Raises
        ------
        ImportError
            If it is not installed.
        """
        columns = {"best": np.array([*self.names, ""])[self.best]}
        for what in ("chi2", "aicc", "delta", "weight", "bic"):
            values = getattr(self, what)
            columns |= {f"{what}_{name}": values[..., k] for k, name in enumerate(self.names)}
        return frame_of(self.labels, self.best.shape, columns, library)

    def __repr__(self) -> str:
        width = max(len("model"), *map(len, self.names))
        one = not self.best.ndim
        head = ("parameters", "chi2", "AICc", "delta", "weight", "BIC")
        if not one:
            head = ("parameters", "best of", "mean weight", "median delta")
        rows = [self._row(k, one) for k in range(len(self.names))]
        title = "one fit" if one else f"{self.best.size:,} fits"
        lines = [f"Comparison of {len(self.names)} models of {title}"]
        lines.append(f"  {'model':<{width}}" + "".join(f"  {word:>12}" for word in head))
        lines += [
            f"  {name:<{width}}" + "".join(f"  {cell:>12}" for cell in row)
            for name, row in zip(self.names, rows, strict=True)
        ]
        lost = int(np.count_nonzero(self.best < 0))
        if lost:
            lines.append(f"  {lost:,} of them without a fit that converged")
        return "\n".join(lines)

    def _row(self, k: int, one: bool):
        """Cells of the table."""
        n = np.ravel(self.varying[..., k])
        number = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
        if one:
            values = self.chi2, self.aicc, self.delta, self.weight, self.bic
            return (number, *(f"{value[k]:.5g}" for value in values))
        some = self.best >= 0
        weights, deltas = self.weight[some, k], self.delta[some, k]
        deltas = deltas[~np.isnan(deltas)]
        mean = f"{weights.mean():.3g}" if weights.size else "nan"
        median = f"{np.median(deltas):.4g}" if deltas.size else "nan"
        return (number, f"{np.count_nonzero(self.best == k):,}", mean, median)


def compare(*results: FitResult, names: Sequence[str] | None = None) -> Comparison:
    r"""Compare models that were fitted to the same data.

    By Akaike's criterion corrected for few points, :math:`\mathrm{AIC}_c`, and the Bayesian one,
    as of `FitResult`; nested models also by F tests and likelihood ratios.  With a robust loss
    these are of the loss, and no more than a guide.

    Where a result has common fits (`shared` of `fit`), all data sets of one are one: the arrays are
    of sums over the data sets that share a parameter in any of the results, in the order of their
    groups, and scalars where that are all.  So ``compare(common, apart).f_test(0, 1)`` asks
    whether what was shared differs between data sets (the extra sum of squares).

    Parameters
    ----------
    *results : FitResult
        Two or more, one for each model.
    names : sequence of str, optional
        Of the models; '0', '1', ... if not given.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        For a part of a common fit; and if the results are not of the same data: other shapes,
        numbers of points, losses or kinds of errors, or, where they have their data, other values
        of ydata, sigma, mask or f_scale.
    TypeError
        For anything but results.

    Notes
    -----
    Source: K. P. Burnham, D. R. Anderson, "Model Selection and Multimodel Inference" (2002),
    chapter 2.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq import compare, fit
    >>> x = np.arange(8.0)
    >>> y = 1.0 + 0.5 * x + np.array([0.1, -0.2, 0.1, 0.1, -0.2, 0.0, 0.2, -0.1])
    >>> line = fit(lambda x, a, b: a + b * x, x, y, [0.0, 0.0])
    >>> parabola = fit(lambda x, a, b, c: a + b * x + c * x**2, x, y, [0.0, 0.0, 0.0])
    >>> both = compare(line, parabola, names=["line", "parabola"])
    >>> both
    Comparison of 2 models of one fit
      model       parameters          chi2          AICc         delta        weight           BIC
      line                 2          0.16       -21.296             0       0.99063       -27.137
      parabola             3       0.15976       -11.975        9.3214     0.0093711        -25.07
    >>> float(both.f_test("line", "parabola").p.round(4))
    0.9346
    """
    if len(results) < 2:
        raise TypeError("compare needs two results or more, as compare(line, parabola).")
    _check_results(results)
    for number, result in enumerate(results[1:], 1):
        _check_alike(results[0], result, number)
    names = tuple(map(str, range(len(results)))) if names is None else tuple(names)
    _check_names(names, len(results))
    first = results[0]
    success, chi2, dof, varying = (
        np.stack(part, -1) for part in zip(*wholes(results), strict=True)
    )
    known = first.of_counts or first.absolute_sigma
    of_each = criteria(chi2, dof + varying, varying, known, first.of_counts)
    aicc = np.where(success, of_each.aicc, np.nan)
    delta, weight, best = _weights(aicc)
    return Comparison(
        names=names,
        chi2=chi2.astype(float),
        dof=dof,
        varying=varying,
        aicc=aicc,
        bic=np.where(success, of_each.bic, np.nan),
        delta=delta,
        weight=weight,
        best=best,
        known=known,
        of_counts=first.of_counts,
        rounding=max(ROUNDING[result.x.dtype] for result in results),
        labels=first.labels if success.shape[:-1] == first.shape else None,
    )


def _weights(aicc: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Differences to the smallest, Akaike's weights, and which is smallest."""
    known = ~np.isnan(aicc)
    some = np.any(known, axis=-1)
    ranked = np.where(known, aicc, np.inf)
    least = ranked.min(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # infinite ones: of exact fits, and of too few points
        delta = np.where(aicc == least, 0.0, aicc - least)
        parts = np.where(known, np.exp(-0.5 * delta), 0.0)
        weight = parts / np.where(some[..., None], parts.sum(axis=-1, keepdims=True), np.nan)
    return delta, weight, np.where(some, ranked.argmin(axis=-1), -1)


def _check_results(results: Sequence[Any]) -> None:
    for result in results:
        if not isinstance(result, FitResult):
            raise TypeError(f"compare takes results of fits, got {type(result).__name__}.")


def _check_names(names: tuple[Any, ...], count: int) -> None:
    if len(set(names)) != count or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names must be {count} different texts, got {names}.")


def _check_alike(first: FitResult, other: FitResult, number: int) -> None:
    """Raise ValueError where two results are not of the same data."""
    said = f"results 0 and {number} are not of the same data"
    if first.shape != other.shape:
        raise ValueError(f"{said}: their batches have the shapes {first.shape} and {other.shape}.")
    for flag, words in (("of_counts", "loss='poisson'"), ("absolute_sigma", "absolute_sigma")):
        if getattr(first, flag) != getattr(other, flag):
            raise ValueError(f"{said}: one is with {words} and the other is not.")
    points, others = first.points, other.points
    apart = np.asarray(first.success & other.success & (points != others))
    if apart.any():
        pair = f"{np.ravel(points[apart])[0]} and {np.ravel(others[apart])[0]}"
        raise ValueError(f"{said}: {pair} points, in {apart.sum():,} of {apart.size:,} fits.")
    if first.problem is not None and other.problem is not None:
        what = first.problem.differs(other.problem)
        if what:
            raise ValueError(f"{said}: {what} is not the same.")
