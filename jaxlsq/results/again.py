"""Fits that are run again, and which they are."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxlsq.problem.labels import Labels
from jaxlsq.problem.tables import in_order
from jaxlsq.problem.types import Batch
from jaxlsq.results import storage
from jaxlsq.results.evaluator import Evaluator
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.shared import Shares
from jaxlsq.status import Status

__all__ = ["SAME_COST", "Again"]

# Costs that differ by less, relatively, are taken for the same minimum.
SAME_COST = 1e-4
# What is another question than was asked before.
QUESTION = ("bounds", "fixed", "loss", "f_scale", "mask")


class Again:
    """How fits of a `FitResult` are chosen and run again."""

    x: NDArray[Any]
    cost: NDArray[Any]
    status: NDArray[Any]
    problem: Evaluator | None
    of_counts: bool
    engine: str
    labels: Labels | None
    sharing: Shares | None
    __dataclass_fields__: ClassVar[dict[str, Any]]

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        @property
        def shape(self) -> Batch: ...
        @property
        def success(self) -> NDArray[Any]: ...
        @property
        def failed(self) -> NDArray[Any]: ...
        @property
        def _keys(self) -> Any: ...
        def _of_fits(self, value: Any, name: str) -> NDArray[Any]: ...
        def _flat(self, name: str) -> NDArray[Any]: ...
        def _with_data(self, what: str) -> Evaluator: ...

    def where(self, status: Status | int | str | Iterable[Status | int | str]) -> NDArray[Any]:
        """Which fits ended with a status, or with one of several.

        Parameters
        ----------
        status : Status, int, str, or several of them
            Codes or names, such as ``'MAX_NFEV'``.

        Returns
        -------
        (...) bool array
            For ``result[...]``, and `refit`.

        Raises
        ------
        ValueError
            For what is no status.

        Examples
        --------
        >>> import numpy as np
        >>> from jaxlsq import fit
        >>> t = np.linspace(0, 1, 9)
        >>> result = fit(lambda t, a: a * t, t, [t, t + np.nan, 2 * t], [1.0])
        >>> result.where(status="NONFINITE_DATA")
        array([False,  True, False])
        """
        several = [status] if isinstance(status, (str, int)) else list(status)
        return np.isin(self.status, [int(_status(one)) for one in several])

    def refit(self, where: ArrayLike | None = None, p0: Any = None, **changes: Any) -> Self:
        """Run some fits again, and keep what came out better; or ask another question of them.

        Parameters
        ----------
        where : (...) bool array, optional
            Which ones.  If not given, those that `failed`; all with another question.  A Series
            is read by its keys, a DataArray by its dims and labels.
        p0 : optional
            Where to start, as for `fit`, with the batch's shape where it is per problem;
            where they ended if not given; or at the first start, guessed again where it was a
            guess, if that is not finite, or if they could not begin.
        **changes
            Settings of `fit` that change: ``ftol xtol gtol max_nfev x_scale starts polish
            progress workers devices``.  Or another question, as `fit` takes it: ``bounds fixed
            loss f_scale mask``; what is not said stays, and a parameter that is fixed stays where
            it ended, or at `p0`.

        Returns
        -------
        FitResult
            A fit that converges replaces one that did not, and of two alike the one with the
            smaller cost stays.  With another question each of them is replaced.

        Raises
        ------
        ValueError, TypeError
            For improper values, before anything is compiled.
        Interrupted
            On Ctrl-C, with what is done.
        """
        problem = self._with_data("refit")
        asked = {name: changes.pop(name) for name in QUESTION if name in changes}
        settings = problem.changed_settings(changes)
        if where is None:
            where = np.ones(self.shape, bool) if asked else self.failed
        where = self._of_fits(where, "where")
        p0 = in_order(p0, self._keys, "p0")
        if where.shape not in ((), self.shape):
            raise ValueError(f"where must have the batch's shape {self.shape}, got {where.shape}.")
        index = np.flatnonzero(np.broadcast_to(where, self.shape))
        if asked:
            by_keys = {k: in_order(v, self._keys, k) for k, v in asked.items() if k in QUESTION[:2]}
            problem = problem.changed(asked | by_keys)
            if problem.of_counts != self.of_counts and index.size < self.status.size:
                raise ValueError(
                    "loss='poisson' is for all fits of a result or for none: leave out where."
                )
        if not index.size:
            return self
        # What could not begin has ended nowhere.
        begun = ~np.isin(self.status, (Status.NONFINITE_DATA, Status.TOO_FEW_POINTS))
        x = np.where(begun[..., None], self.x, np.nan)
        if self.sharing is not None:
            return self._refitted(problem.again(index, x, p0, settings))
        stopped = None
        try:
            again = problem.again(index, x, p0, settings)
        except Interrupted as interrupt:
            stopped, again = interrupt, interrupt.result
        new = self._replaced(index, again, problem) if asked else self._improved(index, again)
        if stopped is not None:
            raise Interrupted(new) from None
        return new

    def _refitted(self, again: Any) -> Any:
        """Fits that share parameters, again, or these if they are better."""
        counts = [np.count_nonzero(result.success) for result in (self, again)]
        lower = np.nansum(again.cost) < np.nansum(self.cost)
        better = counts[1] > counts[0] or (counts[1] == counts[0] and lower)
        return replace(again, problem=self.problem, labels=self.labels) if better else self

    def _replaced(self, index: NDArray[Any], again: Any, problem: Any):
        """With the fits at some places as they are of another problem."""
        engines = [again.engine] if index.size == self.status.size else [self.engine, again.engine]
        return replace(
            self,
            **self._with_rows(index, again),
            inverse=None,
            problem=problem.merged_into(self.problem, index),
            of_counts=again.of_counts,
            absolute_sigma=again.absolute_sigma,
            engine="; ".join(filter(None, dict.fromkeys(engines))),
        )

    def _improved(self, index: NDArray[Any], again: Any) -> Any:
        """With the fits at some places that came out better again."""
        old_good, new_good = self.success.ravel()[index], again.success
        cost = self.cost.ravel()[index]
        # What float32 says of a cost is not exact: float64 is believed where it is about the same.
        narrow = self.problem is not None and self.problem.is_narrow
        exact = again.cost.dtype == np.float64 and narrow
        slack = SAME_COST if exact else 0.0
        with np.errstate(invalid="ignore"):
            lower = (again.cost < cost * (1.0 + slack)) | np.isnan(cost)
        better = np.where(old_good == new_good, lower, new_good)
        better &= again.status != Status.INTERRUPTED
        return replace(self, **self._with_rows(index[better], again, better), inverse=None)

    def _with_rows(self, index: NDArray[Any], again: Any, which: Any = ...) -> dict[str, Any]:
        """Arrays with the rows at some places replaced by some of another result's."""
        arrays: dict[str, Any] = {}
        for name in storage.ARRAYS:
            flat, new = self._flat(name), getattr(again, name)
            flat = flat.astype(np.promote_types(flat.dtype, new.dtype))
            flat[index] = new[which]
            arrays[name] = flat.reshape(getattr(self, name).shape)
        return arrays


def _status(value: int | str):
    """A `Status`, of its code or its name."""
    try:
        return Status[value.upper()] if isinstance(value, str) else Status(value)
    except (KeyError, ValueError):
        names = ", ".join(code.name for code in Status if code.name != "RUNNING")
        raise ValueError(f"status must be one of {names}, got {value!r}.") from None
