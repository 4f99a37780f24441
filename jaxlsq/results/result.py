"""What a batch of fits returns."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Labels
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.tables import series_in_order
from jaxlsq.problem.types import Batch, PyTree
from jaxlsq.results import report, storage
from jaxlsq.results.again import Again
from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.interval_plots import IntervalPlots
from jaxlsq.results.intervals import Intervals
from jaxlsq.results.kept import Kept
from jaxlsq.results.plot import Plots
from jaxlsq.results.resampling import Resampling
from jaxlsq.results.shared import SharedParameters, Shares
from jaxlsq.results.shifts import Shifted
from jaxlsq.results.suspicion import Suspicions
from jaxlsq.results.uncertainty import Uncertainty
from jaxlsq.status import Status, converged, describe

__all__ = ["FitResult"]


@dataclass(frozen=True, repr=False, eq=False)
class FitResult(
    Plots, IntervalPlots, Intervals, Uncertainty, Resampling, Suspicions, Shifted, Again, Kept
):
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
        Points that were fitted minus parameters that are not fixed, and not shared: see
        `shared` for the degrees of freedom of common fits.
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
    of_counts : bool
        Whether the cost is half a deviance of counts.
    absolute_sigma : bool
        Whether `cov` is not scaled by the reduced chi-squared.
    engine : str
        What did the work: 'compiled lanes', or 'XLA' and why not those.
    labels : Labels or None
        What the axes of the batch are called, where the data said so.
    sharing : Shares or None
        Which parameters the fits share; `shared` has their values.
    """

    x: NDArray[Any]
    cost: NDArray[Any]
    status: NDArray[Any]
    nfev: NDArray[Any]
    njev: NDArray[Any]
    nit: NDArray[Any]
    optimality: NDArray[Any]
    dof: NDArray[Any]
    agreed: NDArray[Any]
    active_mask: NDArray[Any]
    fixed: NDArray[Any]
    layout: Layout
    names: tuple[str, ...]
    problem: Evaluator | None = None
    of_counts: bool = False
    absolute_sigma: bool = False
    engine: str = ""
    inverse: NDArray[Any] | None = None  # `inverse_gram`, where it is known
    derivations: dict[str, NDArray[Any]] | None = None  # `derived_by_name` of what was loaded
    labels: Labels | None = None
    sharing: Shares | None = None

    # --- reading -----------------------------------------------------------------

    @property
    def params(self) -> PyTree:
        """Fitted parameters, as `p0` was given: an array (..., n), or a dict of arrays."""
        return self.layout.unpack(self.x)

    @property
    def shared(self) -> SharedParameters | None:
        """Parameters that the fits share, each once, with their errors; None if there are none."""
        return SharedParameters.of(self) if self.sharing else None

    @property
    def success(self) -> NDArray[Any]:
        """Which fits converged, to parameters and a cost that are finite."""
        finite = np.isfinite(self.cost) & np.all(np.isfinite(self.x), axis=-1)
        return converged(self.status) & finite

    @property
    def failed(self) -> NDArray[Any]:
        """Which fits did not, of those that had a point to fit."""
        return ~self.success & ~self.masked_out

    @property
    def masked_out(self) -> NDArray[Any]:
        """Which data sets have no point that counts; they are neither a success nor a failure."""
        return self.status == Status.MASKED_OUT

    @property
    def shape(self) -> Batch:
        """The shape of the batch."""
        return self.status.shape

    def __len__(self) -> int:
        return len(self.status)

    def message(self, index: int | tuple[Any, ...] = ()) -> str:
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

    def counts(self) -> dict[Status, int]:
        """How many fits ended with each status, the most frequent first.

        Examples
        --------
        >>> import numpy as np
        >>> from jaxlsq import fit
        >>> x, y = np.arange(4.0), np.ones((3, 4))
        >>> y[1, 2] = np.nan
        >>> fit(lambda x, a: a + 0.0 * x, x, y, [1.0]).counts()
        {Status.GTOL: 2, Status.NONFINITE_DATA: 1}
        """
        number = Counter(self.status.ravel().tolist())
        return {Status(code): count for code, count in number.most_common()}

    def __getitem__(self, index: Any) -> "FitResult":
        """The fit or fits at an index of the batch; booleans with labels are read by those."""
        if not self.shape:
            raise IndexError("this is one fit; there is nothing to index")
        if getattr(index, "dtype", None) == np.bool_:
            index = self._of_fits(index, "the index")
        places = np.asarray(np.arange(self.status.size).reshape(self.shape)[index])
        arrays = {name: self._flat(name)[places] for name in storage.ARRAYS}
        problem = self.problem and self.problem.take(places.reshape(-1), places.shape)
        known = vars(self).get("inverse_gram", self.inverse)
        if known is not None:
            known = known.reshape(self.status.size, *known.shape[-2:])[places]
        arrays = {k: np.asarray(v) for k, v in arrays.items()}
        labels = self.labels and self.labels.take(places)
        some = {"inverse": known, "labels": labels}
        some["sharing"] = self.sharing and self.sharing.take(places)
        some["derivations"] = self.derivations and {
            name: pair.reshape(-1, 2)[places] for name, pair in self.derivations.items()
        }
        return replace(self, **arrays, problem=problem, **some)

    @property
    def _keys(self):
        return self.labels and self.labels.keys()

    def _of_fits(self, value: Any, name: str) -> NDArray[Any]:
        """A value for each fit, in their order where it has labels."""
        value = self.labels.of_fits(value, name) if self.labels else value
        return np.asarray(series_in_order(value, self._keys, name))

    def _flat(self, name: str) -> NDArray[Any]:
        """An array with one axis for the batch."""
        array = getattr(self, name)
        return array.reshape(self.status.size, *array.shape[len(self.shape) :])

    def _one(self, index: Any, what: str) -> "FitResult":
        """One fit of the batch, for what is of one fit."""
        one = self[index] if self.shape else self
        if one.shape:
            raise IndexError(f"{what} is of one fit; give its index in the batch {self.shape}.")
        return one

    def __iter__(self) -> Iterator["FitResult"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return report.text(self)

    def _repr_html_(self):
        return report.html(self)

    def summary(self) -> report.Words:
        """All fits in words: counts of each status, and quantiles of the parameters.

        Returns
        -------
        str
            Which a notebook shows as tables.  Of fits that are `suspect` it counts the reasons.
        """
        notes = report.suspicions(self, True)
        return report.Words(report.text(self, notes), report.html(self, notes))

    def report(self, index: int | tuple[Any, ...] = ()) -> report.Words:
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
        one = self._one(index, "report")
        return report.one_fit(one, self._suspicions(one, index))

    @property
    def residuals(self) -> NDArray[Any] | list[NDArray[Any]]:
        """Residuals as they were minimized, (..., m): model - data over sigma, zero where masked.

        A list of arrays where the data are ragged.  Of counts Pearson's, ``(model - y) /
        sqrt(model)``; with a robust loss those that the loss is of; with errors in x the
        distances from the curve, positive where the model is above the point.
        """
        return self._with_data("residuals").residuals(self.x)

    def _with_data(self, what: str) -> Evaluator:
        if self.problem is None:
            raise ValueError(
                f"{what} needs the data and the model, which a loaded, concatenated or pickled "
                "result does not have; ask for it before, of the result that fit returned."
            )
        self.problem.check()
        return self.problem

    # --- copying ---------------------------------------------------------------------

    def __copy__(self) -> "FitResult":
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FitResult":
        """With arrays of its own, and the same data."""
        arrays = {name: getattr(self, name).copy() for name in storage.ARRAYS}
        return replace(self, **arrays)
