"""What a batch of fits returns."""

import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from jaxlsq.numerics.loss import POISSON
from jaxlsq.params import Layout
from jaxlsq.results import report, statistics
from jaxlsq.results.covariance import determined, scaled_inverses
from jaxlsq.results.plot import Plots
from jaxlsq.status import SUCCESS, Status, describe

__all__ = ["FitResult"]

_SAVED = ("x", "cost", "status", "nfev", "njev", "nit", "optimality", "dof", "agreed")
_SAVED = (*_SAVED, "active_mask", "fixed")


@dataclass(frozen=True, repr=False)
class FitResult(Plots):
    r"""The fits of a batch; every array has the batch's shape in front.

    Attributes
    ----------
    x : (..., n) array
        Fitted parameters as vectors; the last good ones where a fit failed.
    cost : (...) array
        Half the (weighted) sum of squares, :math:`\frac12 \sum_i r_i^2`, or of the loss; NaN
        if it was never finite.
    status : (...) int array
        Why each fit ended, a code of `jaxlsq.Status`; `message` says it in words.
    nfev, njev, nit : (...) int arrays
        Evaluations of the residual and of the Jacobian, and accepted steps.
    optimality : (...) array
        Largest element of the gradient :math:`J^T r`, but for those that a bound holds.
    dof : (...) int array
        Points that were fitted minus parameters that are not fixed.
    agreed : (...) int array
        With several starts: how many reached the cost that is reported, to 1e-4.
    active_mask : (..., n) int8 array
        -1 and 1 for parameters that ended at their lower and upper bound.
    fixed : (..., n) bool array
        Parameters that were not fitted.
    layout : Layout
        How `params` is made from `x`.
    names : tuple of str
        Of the n parameters: the keys of `p0`, or the model's own.
    """

    x: np.ndarray
    cost: np.ndarray
    status: np.ndarray
    nfev: np.ndarray
    njev: np.ndarray
    nit: np.ndarray
    optimality: np.ndarray
    dof: np.ndarray
    agreed: np.ndarray
    active_mask: np.ndarray
    fixed: np.ndarray
    layout: object
    names: tuple
    problem: object = None

    # --- reading -----------------------------------------------------------------

    @property
    def params(self):
        """Fitted parameters, as `p0` was given: an array (..., n), or a dict of arrays."""
        return self.layout.unpack(self.x)

    @property
    def success(self):
        """Which fits converged."""
        return np.isin(self.status, sorted(SUCCESS))

    @property
    def failed(self):
        """Which fits did not."""
        return ~self.success

    @property
    def shape(self):
        """The shape of the batch."""
        return self.status.shape

    def __len__(self):
        return len(self.status)

    def message(self, index=()):
        """Why one fit ended, and what to try.

        Parameters
        ----------
        index : int or tuple
            Which one.
        """
        status = self.status[index]
        if np.ndim(status):
            raise IndexError(f"message is of one fit; give its index in the batch {self.shape}.")
        return describe(status)

    def counts(self):
        """How many fits ended with each status, the most frequent first."""
        number = Counter(self.status.ravel().tolist())
        return {Status(code): count for code, count in number.most_common()}

    def __getitem__(self, index):
        """The fit or fits at an index of the batch."""
        if not self.shape:
            raise IndexError("this is one fit; there is nothing to index")
        places = np.asarray(np.arange(self.status.size).reshape(self.shape)[index])
        arrays = {name: self._flat(name)[places] for name in _SAVED}
        problem = self.problem and self.problem.take(places.reshape(-1), places.shape)
        return replace(self, **{k: np.asarray(v) for k, v in arrays.items()}, problem=problem)

    def _flat(self, name):
        """An array with one axis for the batch."""
        array = getattr(self, name)
        return array.reshape(self.status.size, *array.shape[len(self.shape) :])

    def _one(self, index, what):
        """One fit of the batch, for what is of one fit."""
        one = self[index] if self.shape else self
        if one.shape:
            raise IndexError(f"{what} is of one fit; give its index in the batch {self.shape}.")
        return one

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return report.text(self)

    def _repr_html_(self):
        return report.html(self)

    def summary(self):
        """All fits in words: counts of each status, and quantiles of the parameters.

        Returns
        -------
        str
            Which a notebook shows as tables.
        """
        return report.Words(report.text(self), report.html(self))

    def report(self, index=()):
        """One fit in words: values and errors, strong correlations, statistics, why it ended.

        Parameters
        ----------
        index : int or tuple
            Which one.

        Returns
        -------
        str
            Which a notebook shows as a table.
        """
        return report.one_fit(self._one(index, "report"))

    # --- how good they are -------------------------------------------------------

    @property
    def free(self):
        """Which parameters neither are fixed nor ended at a bound, (..., n)."""
        return ~self.fixed & (self.active_mask == 0)

    @property
    def varying(self):
        """How many parameters were fitted, (...)."""
        return np.count_nonzero(~self.fixed, axis=-1)

    @property
    def chi2(self):
        """The (weighted) sum of squares, or of the loss, twice the cost; of counts the deviance."""
        return 2.0 * self.cost

    @property
    def redchi(self):
        """`chi2` over the degrees of freedom; inf without any."""
        return statistics.quotient(self.chi2, self.dof)

    @property
    def aic(self):
        r"""Akaike's criterion, :math:`N \ln(\chi^2 / N) + 2 n`, to compare models by.

        Of counts it is :math:`\chi^2 + 2 n`, with the deviance for chi-squared.
        """
        return self._information(2.0 * self.varying)

    @property
    def bic(self):
        r"""The Bayesian criterion, :math:`N \ln(\chi^2 / N) + n \ln N`; of counts as `aic`."""
        return self._information(self.varying * np.log(np.maximum(self.dof + self.varying, 1)))

    def _information(self, penalty):
        if self.problem is not None and self.problem.loss is POISSON:
            return self.chi2 + penalty
        return statistics.information(self.chi2, self.dof + self.varying, penalty)

    @property
    def r2(self):
        r"""The part of the data's (weighted) variance that the model explains, :math:`R^2`.

        .. math:: 1 - \sum_i r_i^2 / \sum_i (y_i - \bar y)^2 / \sigma_i^2

        Of counts, the part of the deviance.
        """
        variation = self._with_data("r2").variation(self.x)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1.0 - variation[..., 0] / variation[..., 1]

    # --- uncertainty and data ----------------------------------------------------

    @property
    def cov(self):
        r"""Covariance of the parameters, (..., n, n).

        .. math:: \sigma^2 (J^T J)^{-1}, \quad \sigma^2 = 2\,\mathrm{cost} / \mathrm{dof}

        or 1 for :math:`\sigma^2` with ``absolute_sigma`` and of counts, where J has the square
        roots of the model for sigma.  In float64, computed in blocks each time it is asked for.
        Of the parameters that are `free`, with zeros for the others.  inf for parameters that the
        data do not determine and where `dof` is zero, NaN where a fit did not begin.
        """
        gram, both = self._free_gram("cov")
        inverse = scaled_inverses(gram, self.x.dtype)
        if not self.problem.absolute_sigma:
            variance = 2.0 * self.cost.astype(float) / np.where(self.dof > 0, self.dof, 1)
            known = (self.dof > 0)[..., None, None]
            variance = np.where(np.isinf(inverse), 1.0, variance[..., None, None])
            inverse = np.where(known, inverse * variance, np.inf)
        never = np.isnan(self.cost)[..., None, None]
        return np.where(never, np.nan, np.where(both, inverse, 0.0))

    def _free_gram(self, what):
        """J'J with rows of the unit matrix for what is not free, and which elements are free."""
        gram = self._with_data(what).gram(self.x)
        both = self.free[..., :, None] & self.free[..., None, :]
        return np.where(both, gram, np.eye(gram.shape[-1])), both

    @property
    def stderr(self):
        """Standard errors of the parameters, in the form of `params`."""
        return self.layout.unpack(np.sqrt(np.diagonal(self.cov, axis1=-2, axis2=-1)))

    @property
    def correlation(self):
        """Correlation of the parameters, (..., n, n); NaN where `cov` is not finite."""
        return statistics.correlation(self.cov)

    def undetermined(self, index=()):
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
        known = determined(one._free_gram("undetermined")[0], one.x.dtype)
        return tuple(name for name, is_known in zip(self.names, known, strict=True) if not is_known)

    @property
    def residuals(self):
        """Residuals as they were minimized, (..., m): weighted, and zero where masked.

        A list of arrays where the data are ragged.
        """
        return self._with_data("residuals").residuals(self.x)

    def predict(self, x=None):
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

    def band(self, x=None):
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

    def derived(self, function):
        r"""What follows from the parameters, and its standard errors by the delta method.

        Parameters
        ----------
        function : callable
            ``function(params)``, in jax.numpy, of one fit's parameters as `params` has them; it
            returns an array or a pytree of arrays.  `expand` of `fit` is one.

        Returns
        -------
        values, errors : pytrees of (..., ...) arrays
            In the form that `function` returns; the errors are
            :math:`\sqrt{g^T C g}`, with g its gradient and C as in `cov`.
        """
        return self._with_data("derived").derived(self.x, self.cov, function)

    def refit(self, where=None, p0=None, **changes):
        """Run some fits again, and keep what came out better.

        Parameters
        ----------
        where : (...) bool array, optional
            Which ones; those that failed if not given.
        p0 : optional
            Where to start, as for `fit`, with the batch's shape where it is per problem;
            where they ended if not given (or at the first start, if that is not finite).
        **changes
            Settings of `fit` that change: ``ftol xtol gtol max_nfev x_scale starts polish
            progress``.

        Returns
        -------
        FitResult
            A fit that converges replaces one that did not, and of two alike the one with the
            smaller cost stays.
        """
        problem = self._with_data("refit")
        settings = problem.changed_settings(changes)
        where = self.failed if where is None else np.asarray(where)
        if where.shape not in ((), self.shape):
            raise ValueError(f"where must have the batch's shape {self.shape}, got {where.shape}.")
        index = np.flatnonzero(np.broadcast_to(where, self.shape))
        if not index.size:
            return self
        again = problem.again(index, self.x, p0, settings)
        old_good, new_good = self.success.ravel()[index], again.success
        with np.errstate(invalid="ignore"):
            lower = (again.cost < self.cost.ravel()[index]) | np.isnan(self.cost.ravel()[index])
        better = np.where(old_good == new_good, lower, new_good)
        arrays = {}
        for name in _SAVED:
            flat = self._flat(name).copy()
            flat[index[better]] = getattr(again, name)[better]
            arrays[name] = flat.reshape(getattr(self, name).shape)
        return replace(self, **arrays)

    def _with_data(self, what):
        if self.problem is None:
            raise ValueError(
                f"{what} needs the data, which a loaded or concatenated result does not have; "
                "ask for it before saving."
            )
        return self.problem

    # --- keeping -----------------------------------------------------------------

    def to_dict(self):
        """Parameters by name (with ``_param`` where that is taken), and the other arrays."""
        columns = dict(zip(self.names, np.moveaxis(self.x, -1, 0), strict=True))
        per_fit = [name for name in _SAVED[1:] if getattr(self, name).shape == self.shape]
        rest = {name: getattr(self, name) for name in (*per_fit, "success")}
        columns = {f"{k}_param" if k in rest else k: v for k, v in columns.items()}
        return columns | rest

    def save(self, path):
        """Write everything but the data to an ``.npz`` file.

        Parameters that are neither an array nor a dict of arrays are read back as an array.
        """
        arrays = {name: getattr(self, name) for name in _SAVED}
        params = self.params
        flat = isinstance(params, dict) and len(params) == len(self.layout.shapes)
        # In the order of the leaves, which is that of the sorted keys.
        shapes = dict(zip(sorted(params), self.layout.shapes, strict=True)) if flat else None
        np.savez(
            _with_suffix(path), **arrays, names=np.array(self.names), shapes=json.dumps(shapes)
        )

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; the result has no data, so no `cov` or `refit`."""
        with np.load(_with_suffix(path)) as file:
            arrays = {name: file[name] for name in _SAVED}
            names = tuple(file["names"].tolist())
            shapes = json.loads(str(file["shapes"]))
        if shapes is None:
            return cls(**arrays, layout=Layout.of(np.zeros(len(names))), names=names)
        example = {key: np.zeros(shape) for key, shape in shapes.items()}
        return cls(**arrays, layout=Layout.of(example), names=names)

    @classmethod
    def concat(cls, results):
        """One result from several with the same parameters, along the first axis."""
        results = list(results)
        if not results:
            raise ValueError("concat needs at least one result")
        if len({result.layout for result in results}) != 1:
            raise ValueError("concat needs results with the same parameters")
        arrays = {
            name: np.concatenate([getattr(result, name) for result in results]) for name in _SAVED
        }
        return cls(**arrays, layout=results[0].layout, names=results[0].names)


def _with_suffix(path):
    """What NumPy makes of a path that it saves to."""
    path = str(path)
    return path if path.endswith(".npz") else path + ".npz"
