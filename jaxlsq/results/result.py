"""What a batch of fits returns."""

import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from jaxlsq.params import Layout
from jaxlsq.results import report, statistics
from jaxlsq.results.covariance import determined, scaled_inverses
from jaxlsq.results.plot import Plots
from jaxlsq.status import SUCCESS, Status, describe

__all__ = ["FitResult"]

_SAVED = ("x", "cost", "status", "nfev", "njev", "nit", "optimality", "dof", "agreed")


@dataclass(frozen=True, repr=False)
class FitResult(Plots):
    r"""The fits of a batch; every array has the batch's shape in front.

    Attributes
    ----------
    x : (..., n) array
        Fitted parameters as vectors; the last good ones where a fit failed.
    cost : (...) array
        Half the (weighted) sum of squares, :math:`\frac12 \sum_i r_i^2`; NaN if it was never
        finite.
    status : (...) int array
        Why each fit ended, a code of `jaxlsq.Status`; `message` says it in words.
    nfev, njev, nit : (...) int arrays
        Evaluations of the residual and of the Jacobian, and accepted steps.
    optimality : (...) array
        Largest element of the gradient :math:`J^T r`.
    dof : (...) int array
        Points that were fitted minus parameters.
    agreed : (...) int array
        With several starts: how many reached the cost that is reported, to 1e-4.
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

    def report(self, index=()):
        """One fit in words: values and errors, strong correlations, statistics, why it ended.

        Parameters
        ----------
        index : int or tuple
            Which one.

        Returns
        -------
        str
        """
        return report.one_fit(self._one(index, "report"))

    # --- how good they are -------------------------------------------------------

    @property
    def chi2(self):
        """The (weighted) sum of squares, twice the cost."""
        return 2.0 * self.cost

    @property
    def redchi(self):
        """`chi2` over the degrees of freedom; inf without any."""
        return statistics.quotient(self.chi2, self.dof)

    @property
    def aic(self):
        r"""Akaike's criterion, :math:`N \ln(\chi^2 / N) + 2 n`, to compare models by."""
        n = self.x.shape[-1]
        return statistics.information(self.chi2, self.dof + n, 2.0 * n)

    @property
    def bic(self):
        r"""The Bayesian criterion, :math:`N \ln(\chi^2 / N) + n \ln N`."""
        n, points = self.x.shape[-1], self.dof + self.x.shape[-1]
        return statistics.information(self.chi2, points, n * np.log(np.maximum(points, 1)))

    @property
    def r2(self):
        r"""The part of the data's (weighted) variance that the model explains, :math:`R^2`.

        .. math:: 1 - \chi^2 / \sum_i (y_i - \bar y)^2 / \sigma_i^2
        """
        total = self._with_data("r2").total_squares(self.x)
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1.0 - self.chi2 / total

    # --- uncertainty and data ----------------------------------------------------

    @property
    def cov(self):
        r"""Covariance of the parameters, (..., n, n).

        .. math:: \sigma^2 (J^T J)^{-1}, \quad \sigma^2 = 2\,\mathrm{cost} / \mathrm{dof}

        or 1 for :math:`\sigma^2` with ``absolute_sigma``.  In float64, computed in blocks each
        time it is asked for.  inf for parameters that the data do not determine and where `dof`
        is zero, NaN where a fit did not begin.
        """
        problem = self._with_data("cov")
        inverse = scaled_inverses(problem.gram(self.x), self.x.dtype)
        never = np.isnan(self.cost)[..., None, None]
        if problem.absolute_sigma:
            return np.where(never, np.nan, inverse)
        variance = 2.0 * self.cost.astype(float) / np.where(self.dof > 0, self.dof, 1)
        known = (self.dof > 0)[..., None, None]
        variance = np.where(np.isinf(inverse), 1.0, variance[..., None, None])
        return np.where(never, np.nan, np.where(known, inverse * variance, np.inf))

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
        gram = one._with_data("undetermined").gram(one.x)
        known = determined(gram, one.x.dtype)
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
        rest = {name: getattr(self, name) for name in (*_SAVED[1:], "success")}
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
