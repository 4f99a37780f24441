"""What may change from one solution of a batch to the next."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from numpy.typing import ArrayLike

from jaxlsq.problem.mistakes import brief_errors
from jaxlsq.problem.tolerances import check_limit, check_tolerances
from jaxlsq.problem.types import Keeps
from jaxlsq.tracing.forked import check_not_forked

__all__ = ["POLISHES", "Settings"]

POLISHES = ("auto", "float64", None)


@dataclass(frozen=True)
class Settings:
    """What may change from one solution of a problem to the next."""

    ftol: float | None = None
    xtol: float | None = None
    gtol: float | None = 0.0
    x_scale: ArrayLike | None = None
    max_nfev: int | None = None
    starts: int | str | ArrayLike = 1
    polish: str | None = "auto"
    progress: bool | Callable[..., Any] = False
    workers: int | None = None
    devices: Any = None

    @classmethod
    def of(cls, **values: Any) -> Self:
        """With its numbers checked, before anything else happens.

        Raises
        ------
        TypeError, ValueError
            For a name that is not a field, or an improper value.
        """
        with brief_errors:
            return cls._checked(values)

    @classmethod
    def _checked(cls, values):
        check_not_forked()
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise TypeError(f"{unknown} can't be changed; what can is {known}.")
        settings = cls(**values)
        given = settings.polish
        if not (given is None or isinstance(given, str)) or given not in POLISHES:
            raise ValueError(f"polish must be 'auto', 'float64' or None, got {given!r}.")
        check_tolerances(ftol=settings.ftol, xtol=settings.xtol, gtol=settings.gtol)
        check_limit(settings.max_nfev)
        check_limit(settings.workers, "workers")
        return settings

    def kept(self, keeper: Keeps) -> Self:
        """The same, which the caller's arrays no longer reach."""
        arrays = {name: keeper.array(name, getattr(self, name)) for name in ("x_scale", "starts")}
        return replace(self, **arrays)
