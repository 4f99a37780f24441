"""How good the fits of a result are: statistics, covariances, errors, bands."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.containers import plain
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.sharing import own_and_shared
from jaxlsq.problem.types import PyTree
from jaxlsq.results import statistics
from jaxlsq.results.covariance import scaled_inverses
from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.shared import Shares

__all__ = ["Uncertainty"]


class Uncertainty:
    """What a `FitResult` says of its fits' quality."""

    x: NDArray[Any]
    cost: NDArray[Any]
    dof: NDArray[Any]
    active_mask: NDArray[Any]
    fixed: NDArray[Any]
    layout: Layout
    names: tuple[str, ...]
    of_counts: bool
    absolute_sigma: bool
    inverse: NDArray[Any] | None
    problem: Evaluator | None
    derivations: dict[str, NDArray[Any]] | None
    sharing: Shares | None

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        def _one(self, index: Any, what: str) -> Any: ...
        def _with_data(self, what: str) -> Evaluator: ...

    @property
    def free(self) -> NDArray[Any]:
        """Which parameters neither are fixed nor ended at a bound, (..., n)."""
        return ~self.fixed & (self.active_mask == 0)

    @property
    def varying(self) -> Any:
        """How many parameters were fitted, (...)."""
        return np.count_nonzero(~self.fixed, axis=-1)

    @property
    def _own_varying(self) -> Any:
        """How many parameters were fitted that are not shared, without which `dof` is, (...)."""
        own, _ = own_and_shared(self.names, self.sharing.names if self.sharing else ())
        return np.count_nonzero(~self.fixed[..., own], axis=-1)

    @property
    def points(self) -> Any:
        """How many points were fitted, (...)."""
        return self.dof + self._own_varying

    @property
    def chi2(self) -> NDArray[Any]:
        """The (weighted) sum of squares, or of the loss, twice the cost; of counts the deviance."""
        return 2.0 * self.cost

    @property
    def redchi(self) -> NDArray[Any]:
        """`chi2` over the degrees of freedom; inf without any, NaN without points."""
        return statistics.quotient(self.chi2, self.dof)

    @property
    def aic(self) -> NDArray[Any]:
        r"""Akaike's criterion, :math:`N \ln(\chi^2 / N) + 2 n`, to compare models by.

        With ``absolute_sigma``, and of counts, it is :math:`\chi^2 + 2 n`: the size of the errors
        is known, and not estimated from the residuals.  (lmfit has the first one always.)
        """
        return self._criteria.aic

    @property
    def aicc(self) -> NDArray[Any]:
        r"""Akaike's criterion corrected for few points, :math:`\mathrm{AIC} + 2 K (K + 1) /
        (N - K - 1)`.

        K are the parameters that were fitted and the variance, which is estimated too; of counts
        the parameters alone.  inf where there are not enough points.  With ``absolute_sigma`` it is
        `aic`, which then needs no correction.
        """
        return self._criteria.aicc

    @property
    def bic(self) -> NDArray[Any]:
        r"""The Bayesian criterion, :math:`N \ln(\chi^2 / N) + n \ln N`.

        With ``absolute_sigma``, and of counts, :math:`\chi^2 + n \ln N`.
        """
        return self._criteria.bic

    @property
    def _criteria(self):
        known = self.absolute_sigma or self.of_counts
        return statistics.criteria(self.chi2, self.points, self.varying, known, self.of_counts)

    @property
    def r2(self) -> NDArray[Any]:
        r"""The part of the data's (weighted) variance that the model explains, :math:`R^2`.

        .. math:: 1 - \sum_i r_i^2 / \sum_i (y_i - \bar y)^2 / \sigma_i^2

        Of counts, the part of the deviance.
        """
        variation = self._with_data("r2").variation(self.x)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1.0 - variation[..., 0] / variation[..., 1]

    @cached_property
    def cov(self) -> NDArray[Any]:
        r"""Covariance of the parameters, (..., n, n).

        .. math:: \sigma^2 (J^T J)^{-1}, \quad \sigma^2 = 2\,\mathrm{cost} / \mathrm{dof}

        or 1 for :math:`\sigma^2` with ``absolute_sigma`` and of counts, where J has the square
        roots of the model for sigma.  In float64, computed in blocks when it is first asked for.
        Of the parameters that are `free`, with zeros for the others.  inf for parameters that the
        data do not determine and where `dof` is zero, NaN where a fit did not begin.
        """
        inverse = self.inverse_gram
        cost, dof = (self.sharing.cost, self.sharing.dof) if self.sharing else (self.cost, self.dof)
        if not self.absolute_sigma:
            variance = 2.0 * cost.astype(float) / np.where(dof > 0, dof, 1)
            if np.all(dof > 0) and np.isfinite(variance).all() and np.isfinite(inverse).all():
                return _read_only(inverse * variance[..., None, None])  # zeros stay zeros
            known = (dof > 0)[..., None, None]
            variance = np.where(np.isinf(inverse), 1.0, variance[..., None, None])
            inverse = np.where(known, inverse * variance, np.inf)
        never = np.isnan(self.cost)[..., None, None]
        return _read_only(np.where(never, np.nan, np.where(self._both_free, inverse, 0.0)))

    @property
    def _both_free(self):
        """Pairs of parameters that are free, (..., n, n)."""
        return self.free[..., :, None] & self.free[..., None, :]

    @cached_property
    def inverse_gram(self) -> NDArray[Any]:
        r""":math:`(J^T J)^{-1}` of the parameters that are `free`, (..., n, n) in float64.

        inf for those that the data do not determine, zeros for those that are not free.
        """
        if self.inverse is not None:
            return self.inverse
        gram, free = self._with_data("cov").gram(self.x), self.free
        if free.all():
            return _read_only(scaled_inverses(gram, self.x.dtype))
        both = self._both_free
        gram = np.where(both, gram, np.eye(gram.shape[-1]))
        return _read_only(np.where(both, scaled_inverses(gram, self.x.dtype), 0.0))

    @property
    def stderr(self) -> PyTree:
        """Standard errors of the parameters, in the form of `params`."""
        return self.layout.unpack(np.sqrt(np.diagonal(self.cov, axis1=-2, axis2=-1)))

    @property
    def correlation(self) -> NDArray[Any]:
        """Correlation of the parameters, (..., n, n); NaN where `cov` is not finite."""
        return statistics.correlation(self.cov)

    def undetermined(self, index: int | tuple[Any, ...] = ()) -> tuple[str, ...]:
        """Names of the parameters that the data of one fit do not determine.

        Parameters
        ----------
        index : int or tuple
            Which one.

        Returns
        -------
        tuple of str
            Those with a part in a direction along which the residual does not change.
        """
        one = self._one(index, "undetermined")
        lost = np.isinf(np.diagonal(one.inverse_gram))
        return tuple(name for name, is_lost in zip(self.names, lost, strict=True) if is_lost)

    def predict(self, x: PyTree = None) -> NDArray[Any] | list[NDArray[Any]]:
        """The model at the fitted parameters.

        Parameters
        ----------
        x : array or pytree, optional
            Where, the same for all fits, as `xdata` of one; the data's own `xdata` if not given.

        Returns
        -------
        (..., k) array
        """
        return self._with_data("predict").predict(self.x, x)

    def band(self, x: PyTree = None) -> NDArray[Any] | list[NDArray[Any]]:
        r"""Standard errors of `predict`, by the delta method.

        .. math:: \sqrt{g^T C g}, \quad g = \partial f(x, p) / \partial p

        with C as in `cov`; inf where that is not finite.

        Parameters
        ----------
        x : array or pytree, optional
            As for `predict`.

        Returns
        -------
        (..., k) array
        """
        return self._with_data("band").band(self.x, self.cov, x)

    def components(self, x: PyTree) -> dict[str, NDArray[Any]]:
        """The parts that the model is a sum of, at the parameters of one fit.

        Parameters
        ----------
        x : array or pytree
            Where.

        Returns
        -------
        dict of (k,) arrays
            By name; empty where the model has no `components`, as those of `jaxlsq.models` have.
        """
        one = self._one((), "components")
        problem = one._with_data("components")
        own = problem.own("components")
        if own and problem.own("on_grid"):
            places, *_ = problem.data_of_one()
            own = problem.own("elsewhere")(places).components
        params = dict(zip(one.names, one.x.tolist(), strict=True))
        x = jax.tree.map(plain, x)
        return {k: np.asarray(v) for k, v in own(x, **params).items()} if own else {}

    def derived(self, function: Callable[..., Any] | None = None) -> tuple[PyTree, PyTree]:
        r"""What follows from the parameters, and its standard errors by the delta method.

        Parameters
        ----------
        function : callable, optional
            ``function(params)``, in jax.numpy, of one fit's parameters as `params` has them; it
            returns an array or a pytree of arrays.  `expand` of `fit` is one.  If it is not
            given, ``model.derived(params)``, with the parameters as a dict.

        Returns
        -------
        values, errors : pytrees of (..., ...) arrays
            In the form that `function` returns; the errors are
            :math:`\sqrt{g^T C g}`, with g its gradient and C as in `cov`.
        """
        return self._with_data("derived").derived(self.x, self.cov, function)

    def derived_by_name(self) -> dict[str, NDArray[Any]] | None:
        """What the model itself derives, with errors, as (..., 2) arrays; None where it does not.

        Also of a result that was loaded.
        """
        if self.problem is None or not self.problem.own("derived"):
            return self.derivations
        values, errors = self.derived()
        if not isinstance(values, dict):
            return None
        batch = self.cost.shape
        pairs = {
            name: np.stack([value, errors[name]], axis=-1)
            for name, value in values.items()
            if not isinstance(value, (dict, list, tuple)) and np.shape(value) == batch
        }
        return pairs or None


def _read_only(array: NDArray[Any]):
    """An array that is kept, and so is not the caller's to change."""
    array.flags.writeable = False
    return array
