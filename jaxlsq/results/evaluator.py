"""What a result asks of the data and the model that it was fitted to."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self, TypeAlias

from numpy.typing import NDArray

from jaxlsq.problem.captions import Captions
from jaxlsq.problem.resampling import Plan

__all__ = ["Errors", "Evaluator"]

# Standard deviations of x and y, each None where there are none.
Errors: TypeAlias = tuple[NDArray[Any] | None, NDArray[Any] | None]


class Evaluator(Protocol):
    """Data sets and a model, in the order of a result's fits.

    A `FitResult` that `fit` returned has one, and one that was loaded has none.  Parameters x are
    (..., n), with the batch's shape in front, and so is all that comes back.
    """

    @property
    def is_narrow(self) -> bool:
        """Whether some of it was computed in float32."""
        ...

    @property
    def is_robust(self) -> bool:
        """Whether the loss makes less of outliers."""
        ...

    @property
    def captions(self) -> Captions:
        """Of the axes of plots."""
        ...

    def check(self) -> None:
        """Raise RuntimeError where what was fitted has changed."""
        ...

    def take(self, index: NDArray[Any], batch: tuple[int, ...]) -> "Evaluator":
        """That of some of the fits, by their flat places, with a batch shape of their own."""
        ...

    def residuals(self, x: NDArray[Any]) -> NDArray[Any] | list[NDArray[Any]]:
        """(..., m) residuals; a list where the data sets' lengths differ."""
        ...

    def gram(self, x: NDArray[Any]) -> NDArray[Any]:
        """(..., n, n) Gauss-Newton matrices, in float64."""
        ...

    def variation(self, x: NDArray[Any]) -> NDArray[Any]:
        """(..., 2) variation of the data about the model, and about their mean."""
        ...

    def predict(self, x: NDArray[Any], at: Any) -> NDArray[Any] | list[NDArray[Any]]:
        """(..., k) values of the model, at the data's places or others."""
        ...

    def band(
        self, x: NDArray[Any], cov: NDArray[Any], at: Any
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """Their standard errors."""
        ...

    def x_shifts(self, x: NDArray[Any]) -> Any:
        """Shifts to the nearest places on the curve, in the form of x, where x is uncertain."""
        ...

    def derived(
        self, x: NDArray[Any], cov: NDArray[Any], function: Callable[..., Any] | None
    ) -> tuple[Any, Any]:
        """Values of a function of the parameters, or the model's own, and their errors."""
        ...

    def own(self, what: str) -> Any:
        """What the model has of its own, by that name, or None."""
        ...

    def data_of_one(self) -> tuple[Any, NDArray[Any], Errors, NDArray[Any]]:
        """x, y, their errors and which points count, of a result that is one fit."""
        ...

    def changed_settings(self, new: dict[str, Any]) -> Any:
        """Settings of the fit with some of them changed, checked."""
        ...

    def changed(self, new: dict[str, Any]) -> Self:
        """That of the same data with other bounds, another loss or mask."""
        ...

    def merged_into(self, old: Any, index: NDArray[Any]) -> Self:
        """Another one of the same data, with this one's fits at some flat places."""
        ...

    @property
    def of_counts(self) -> bool:
        """Whether the loss is a deviance of counts."""
        ...

    def again(self, index: NDArray[Any], x: NDArray[Any], p0: Any, settings: Any) -> Any:
        """The result of fitting some of them again, from x or p0."""
        ...

    def differs(self, other: Any) -> str | None:
        """What another problem has of other data or another loss, or None."""
        ...

    def held(
        self, index: NDArray[Any], x: NDArray[Any], hold: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """``x cost status nfev`` of fits in float64, (k, ...), with some parameters held.

        Of the data sets at flat places (k,), which may be repeated, from x (k, n).
        """
        ...

    def box(self, index: NDArray[Any]) -> NDArray[Any]:
        """(k, n, 2) lower and upper bounds of some fits, infinite where there are none."""
        ...

    def costs(self, places: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """(k,) costs of the fits at flat places with other parameters; inf where not finite."""
        ...

    def left(self, places: NDArray[Any], x: NDArray[Any], free: NDArray[Any]) -> NDArray[Any]:
        """(k, 2): by what a Gauss-Newton step of the free parameters (k, n) of fits at flat places
        would lower chi-squared, and the data's variation about their mean.
        """
        ...

    def contributions(self, places: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """(k,) norms of what their parameters contribute to the residuals."""
        ...

    def interruption(self) -> Any:
        """What Ctrl-C asks to stop, see `jaxlsq.batch.interruption.Interruption`."""
        ...

    def check_bootstrap(self, plan: Plan) -> None:
        """Raise ValueError where data sets of that kind can't be made."""
        ...

    def replicates(
        self, places: NDArray[Any], x: NDArray[Any], spread: NDArray[Any], plan: Plan
    ) -> Iterator[tuple[slice, NDArray[Any], NDArray[Any]]]:
        """Parameters of fits of data sets made of some fits, and which of them converged."""
        ...

    def acceleration(self, x: NDArray[Any], inverse: NDArray[Any]) -> NDArray[Any]:
        """(..., n) a sixth of the skewness of the parameters' distributions."""
        ...
