"""How good fits are, by what their sums of squares say."""

import numpy as np

__all__ = ["correlation", "information", "quotient"]


def correlation(cov: np.ndarray) -> np.ndarray:
    r""":math:`C_{ij} / \sqrt{C_{ii} C_{jj}}`, NaN where a variance is not finite or zero."""
    variance = np.diagonal(cov, axis1=-2, axis2=-1)
    known = np.isfinite(variance) & (variance > 0)
    errors = np.sqrt(np.where(known, variance, np.nan))
    finite = np.where(np.isfinite(cov), cov, np.nan)
    return finite / errors[..., :, None] / errors[..., None, :]


def information(chi2: np.ndarray, points: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    r""":math:`N \ln(\chi^2 / N)` plus a penalty: what Akaike's and Bayes' criteria are of.

    For Gaussian errors of one unknown size, without terms that are the same for all models.
    Source: K. P. Burnham, D. R. Anderson, "Model Selection and Multimodel Inference" (2002),
    section 2.2.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return points * np.log(chi2 / points) + penalty


def quotient(value: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """``value / divisor``, and inf where that is not positive; NaN of what is NaN."""
    positive = np.asarray(divisor) > 0
    defined = positive | np.isnan(value)
    return np.where(defined, value / np.where(positive, divisor, 1), np.inf)
