"""Further starts of each problem, around the first or as the caller gave them."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.containers import no_mask
from jaxlsq.problem.types import Batch

__all__ = ["NEIGHBOURS", "MultiStart"]

# What `starts` is where those after the first are neighbours' parameters.
NEIGHBOURS = "neighbours"


@dataclass(frozen=True)
class MultiStart:
    """The starts of each problem.

    Attributes
    ----------
    factors, shifts : (starts, n) arrays
        Start k is ``p0 * factors[k]``, and ``shifts[k]`` where p0 is zero.
    given : (k, n) or (total, k, n) array, optional
        Starts after the first that the caller gave; then factors and shifts are not used.
    """

    factors: NDArray[Any]
    shifts: NDArray[Any]
    given: NDArray[Any] | None = None

    @classmethod
    def of(cls, starts: Any, n: int, batch: Batch) -> Self:
        """`starts` as the caller gave it: their number, 'neighbours', or an array of further ones.

        The first start is p0.  The others have each parameter multiplied by a number from
        1/2 to 2, or, where it is zero, moved by one from -1 to 1: the same for all problems.
        """
        if isinstance(starts, str) and starts == NEIGHBOURS:
            starts = 1
        if isinstance(starts, (int, np.integer)):
            if starts < 1:
                raise ValueError(f"starts must be at least 1, got {starts}.")
            u = np.zeros((starts, n))
            if starts > 1:
                u[1:] = np.random.default_rng(0).uniform(-1.0, 1.0, (starts, n))[1:]
            return cls(2.0**u, u)
        given = np.asarray(no_mask(starts, "starts"))
        if (
            given.dtype.kind not in "fiu"
            or given.ndim < 2
            or given.shape[-1] != n
            or given.shape[:-2] not in ((), batch)
        ):
            found = f"{given.dtype} of shape {given.shape}" if given.ndim else repr(starts)
            raise ValueError(
                f"starts must be a number, {NEIGHBOURS!r}, or an array of shape (k, {n}) or "
                f"{(*batch, 'k', n)}; got {found}."
            )
        given = given.astype(np.float64)
        none = np.empty((0, n))
        return cls(none, none, given if given.ndim == 2 else given.reshape(-1, *given.shape[-2:]))

    @property
    def starts(self) -> int:
        """Starts of each problem."""
        return len(self.factors) if self.given is None else self.given.shape[-2] + 1

    def apply(self, x0: NDArray[Any], first: int, last: int) -> NDArray[Any]:
        """(k, starts, n) from the first starts (k, n) of problems `first` to `last`."""
        x0 = x0[:, None]
        if self.starts == 1:
            return x0
        if self.given is None:
            return np.where(x0 == 0, self.shifts, x0 * self.factors)
        more = self.given if self.given.ndim == 2 else self.given[first:last]
        return np.concatenate([x0, np.broadcast_to(more, (len(x0), *more.shape[-2:]))], axis=1)
