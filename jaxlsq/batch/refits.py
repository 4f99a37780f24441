"""What a result asks of its problem that takes more fits: again, otherwise, held, resampled."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch import bootstrap, changes
from jaxlsq.batch.evaluate import Answers
from jaxlsq.batch.held import box, held
from jaxlsq.batch.interruption import Interruption
from jaxlsq.problem.bounds import check_box
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.mistakes import brief_errors
from jaxlsq.problem.resampling import Plan
from jaxlsq.problem.settings import Settings
from jaxlsq.problem.sharing import Sharing
from jaxlsq.problem.starts import Start
from jaxlsq.problem.types import Batch
from jaxlsq.results.result import FitResult

__all__ = ["Refits"]


class Refits(Answers):
    """Further fits of a `jaxlsq.batch.run.Problem`, or of some of its data sets."""

    start: Start
    limits: Limits | None
    settings: Settings
    sharing: Sharing | None
    linear: tuple[int, ...]
    read_start: Callable[..., Any]

    if TYPE_CHECKING:

        def take(self, index: NDArray[Any], batch: Batch) -> Any: ...

        def solve(self) -> FitResult: ...

    def changed_settings(self, new: dict[str, Any]) -> Settings:
        """The settings with some of them changed, checked."""
        if isinstance(new.get("starts"), str):
            raise ValueError(
                f"starts={new['starts']!r} is of fit, whose fits lie beside each other; give a "
                "number of starts, or p0."
            )
        known = [*vars(self.settings), *changes.CHANGES]
        unknown = sorted(set(new) - set(known))
        if unknown:
            raise TypeError(f"{unknown} can't be changed; what can is {known}.")
        return Settings.of(**(vars(self.settings) | new))

    def changed(self, new: dict[str, Any]) -> Self:
        """The same data with other bounds, another loss or mask; see `FitResult.refit`."""
        with brief_errors:
            return changes.changed(self, new)

    def merged_into(self, old: Any, index: NDArray[Any]) -> Self:
        """Another problem of the same data, with this one's fits at some flat places."""
        return changes.merged(old, self, index)

    def again(self, index: NDArray[Any], x: NDArray[Any], p0: Any, settings: Settings) -> FitResult:
        """Fit some of them again; see `FitResult.refit`.

        All, with their batch shape, where they share parameters.
        """
        together = self.sharing is not None
        index = np.arange(self.total) if together else index
        problem = self.take(index, self.batch if together else (len(index),))
        if p0 is not None:
            start = self.read_start(p0, self.batch)
            if start.layout != self.layout:
                raise ValueError(
                    f"p0 must have the parameters of the first fit, {self.names}; got "
                    f"{start.layout.names}."
                )
            if start.array is not None and start.array.ndim == 2:
                start = replace(start, array=start.array[index])
            problem = replace(problem, start=start)
            limits = problem.limits
            if limits and start.array is not None:
                check_box(limits.lower, limits.upper, start.array, "p0", self.names)
        else:
            last = x.reshape(self.total, self.layout.n)[index]
            first = problem.start.array
            if first is None and problem.start.guess is not None:
                first = np.full(self.layout.n, np.nan)  # what is to be guessed
            if first is not None:  # an interrupted fit may lack its linear parameters
                finite = np.isfinite(last)
                good = np.delete(finite, self.linear, axis=1).all(axis=1, keepdims=True)
                last = np.where(good & finite, last, first)
            problem = replace(problem, start=replace(problem.start, array=last), goes_on=True)
        return replace(problem, settings=settings).solve()

    def held(
        self, index: NDArray[Any], x: NDArray[Any], hold: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Fits with some parameters held; see `jaxlsq.batch.held`."""
        return held(self, index, x, hold)

    def box(self, index: NDArray[Any]) -> NDArray[Any]:
        """(k, n, 2) bounds of some fits."""
        return box(self, index)

    def interruption(self) -> Interruption:
        """What Ctrl-C asks to stop."""
        return Interruption()

    def check_bootstrap(self, plan: Plan) -> None:
        """Raise ValueError where data sets of that kind can't be made."""
        bootstrap.check_plan(self, plan)

    def replicates(
        self, places: NDArray[Any], x: NDArray[Any], spread: NDArray[Any], plan: Plan
    ) -> Iterator[tuple[slice, NDArray[Any], NDArray[Any]]]:
        """Fits of data sets made of some fits, see `jaxlsq.batch.bootstrap.replicates`."""
        return bootstrap.replicates(self, places, x, spread, plan)

    def acceleration(self, x: NDArray[Any], inverse: NDArray[Any]) -> NDArray[Any]:
        """(..., n) a sixth of the skewness of the parameters' distributions."""
        return bootstrap.acceleration(self, x, inverse)
