"""How good fits are, by what their sums of squares say."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Criteria", "correlation", "criteria", "quotient"]


def correlation(cov: NDArray[Any]) -> NDArray[Any]:
    r""":math:`C_{ij} / \sqrt{C_{ii} C_{jj}}`, NaN where a variance is not finite or zero."""
    variance = np.diagonal(cov, axis1=-2, axis2=-1)
    known = np.isfinite(variance) & (variance > 0)
    errors = np.sqrt(np.where(known, variance, np.nan))
    finite = np.where(np.isfinite(cov), cov, np.nan)
    return finite / errors[..., :, None] / errors[..., None, :]


class Criteria(NamedTuple):
    """Akaike's criterion, the same corrected for few points, and the Bayesian one."""

    aic: Any
    aicc: Any
    bic: Any


def criteria(chi2: Any, points: Any, number: Any, known: bool, of_counts: bool) -> Criteria:
    r"""What models are compared by: minus twice the logarithm of the likelihood, and more.

    Without terms that are the same for all models, it is :math:`N \ln(\chi^2 / N)` for Gaussian
    errors of one unknown size, :math:`\chi^2` for errors of known sizes, and for counts the
    deviance.

    Of known errors AIC needs no correction for few points: of a model that is linear its mean is
    the right one for any number, since chi-squared of new data is on average 2 n above that of the
    data that were fitted.

    Source: K. P. Burnham, D. R. Anderson, "Model Selection and Multimodel Inference" (2002),
    sections 2.2, 2.4 and 6.4; of known errors R. S. Maier, "Information criteria for deciding
    between normal regression models" (2013), arXiv:1305.5493.

    Parameters
    ----------
    chi2, points, number : (...) arrays
        Chi-squared, points, and parameters that were fitted.
    known : bool
        Whether the errors' sizes are known: with ``absolute_sigma``, and of counts.
    of_counts : bool
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        misfit = chi2 if known else points * np.log(chi2 / points)
    aic = misfit + 2.0 * number
    estimated = number + (0 if known else 1)  # with the variance
    term = quotient(2.0 * estimated * (estimated + 1), points - estimated - 1)
    if known and not of_counts:
        term = np.zeros_like(aic)
    few = np.isinf(term)
    aicc = np.where(few & ~np.isnan(aic), np.inf, aic + np.where(few, 0.0, term))[()]
    return Criteria(aic, aicc, misfit + number * np.log(np.maximum(points, 1)))


def quotient(value: NDArray[Any], divisor: NDArray[Any]) -> NDArray[Any]:
    """``value / divisor``, and inf where that is not positive; NaN of what is NaN."""
    positive = np.asarray(divisor) > 0
    defined = positive | np.isnan(value)
    return np.where(defined, value / np.where(positive, divisor, 1), np.inf)
