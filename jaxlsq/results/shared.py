"""What data sets that were fitted together share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.sharing import own_and_shared
from jaxlsq.results import statistics

__all__ = ["SharedParameters", "Shares"]


@dataclass(frozen=True, eq=False)
class Shares:
    """Which parameters the fits of a result share, and how good their common fit is.

    Attributes
    ----------
    names : tuple of str
        Of the q shared parameters.
    labels : tuple of (groups,) arrays or None
        What their groups are called, None where all fits are one.
    index : (..., q) int array
        The group that each fit belongs to, by its number.
    cost : (...) array
        Of all fits that share parameters with this one, together.
    dof : (...) int array
        Of these: points minus parameters, those that are shared counted once.
    """

    names: tuple[str, ...]
    labels: tuple[NDArray[Any] | None, ...]
    index: NDArray[Any]
    cost: NDArray[Any]
    dof: NDArray[Any]

    def take(self, places: NDArray[Any]) -> Self:
        """Of some of the fits, by their flat places."""
        q = len(self.names)
        return replace(
            self,
            index=self.index.reshape(-1, q)[places],
            cost=self.cost.reshape(-1)[places],
            dof=self.dof.reshape(-1)[places],
        )

    def written(self) -> dict[str, Any]:
        """Arrays by name, for a file; labels that NumPy has no type for become text."""
        arrays = {name: getattr(self, name) for name in ("names", "index", "cost", "dof")}
        for j, label in enumerate(self.labels):
            if label is not None:
                arrays[f"labels.{j}"] = label.astype(str) if label.dtype == object else label
        return {f"sharing.{name}": np.asarray(values) for name, values in arrays.items()}

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]], batch: tuple[int, ...]) -> Self | None:
        """From what `written` gave, or None where there is none.

        Raises
        ------
        ValueError
            For arrays of another shape than the batch's.
        """
        if "sharing.names" not in arrays:
            return None
        names = tuple(arrays["sharing.names"].tolist())
        labels = tuple(arrays.get(f"sharing.labels.{j}") for j in range(len(names)))
        index, cost, dof = (arrays[f"sharing.{name}"] for name in ("index", "cost", "dof"))
        if index.shape != (*batch, len(names)) or cost.shape != batch or dof.shape != batch:
            raise ValueError(f"what it says of shared parameters is not of the batch {batch}")
        return cls(names, labels, index, cost, dof)


@dataclass(frozen=True, eq=False, repr=False)
class SharedParameters(Mapping[str, Any]):
    """The shared parameters of a result, each once; ``result.shared["k"]`` is one of them.

    Attributes
    ----------
    params, stderr : dict
        A number, or a (groups,) array, and its standard error.
    labels : dict
        What the groups are called; None where all fits are one.
    cov, correlation : (q, q) or (combinations, q, q) array
        Of the shared parameters in their order, for each combination of groups.
    groups : (combinations, q) int array
        Numbers of the groups of each combination.
    cost, chi2, redchi : float or (combinations,) array
        Of all fits that share parameters with these.
    dof : int or (combinations,) array
    """

    params: dict[str, Any]
    stderr: dict[str, Any]
    labels: dict[str, NDArray[Any] | None]
    cov: NDArray[Any]
    groups: NDArray[Any]
    cost: NDArray[Any]
    dof: NDArray[Any]

    @classmethod
    def of(cls, result: Any) -> Self:
        """Of a `jaxlsq.FitResult` whose fits share parameters."""
        shares: Shares = result.sharing
        q = len(shares.names)
        _, places = own_and_shared(result.names, shares.names)
        index = shares.index.reshape(-1, q)
        x = result.x.reshape(len(index), -1)[:, places]
        cov = result.cov.reshape(len(index), *result.cov.shape[-2:])[:, places][:, :, places]
        errors = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
        params: dict[str, Any] = {}
        stderr: dict[str, Any] = {}
        labels: dict[str, NDArray[Any] | None] = {}
        for j, name in enumerate(shares.names):
            found, first = _best_of_each(index[:, j], errors[:, j])
            params[name], stderr[name] = x[first, j], errors[first, j]
            label = shares.labels[j]
            labels[name] = None if label is None else label[found]
            if label is None:
                params[name], stderr[name] = params[name][0], stderr[name][0]
        groups, numbers = np.unique(index, axis=0, return_inverse=True)
        _, first = _best_of_each(numbers.reshape(-1), errors.sum(axis=1))
        one = len(groups) == 1
        parts = cov[first], shares.cost.reshape(-1)[first], shares.dof.reshape(-1)[first]
        cov, cost, dof = (part[0] for part in parts) if one else parts
        return cls(params, stderr, labels, cov, groups, cost, dof)

    @property
    def chi2(self) -> NDArray[Any]:
        """Twice the cost."""
        return 2.0 * self.cost

    @property
    def redchi(self) -> NDArray[Any]:
        """`chi2` over the degrees of freedom."""
        return statistics.quotient(self.chi2, self.dof)

    @property
    def correlation(self) -> NDArray[Any]:
        """Correlation of the shared parameters."""
        return statistics.correlation(self.cov)

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.params)

    def __len__(self) -> int:
        return len(self.params)

    def __repr__(self) -> str:
        lines = ["shared parameters, and their standard errors:"]
        for name, value in self.params.items():
            label = self.labels[name]
            several = np.ndim(value) > 0
            values, errors = np.atleast_1d(value), np.atleast_1d(self.stderr[name])
            for i in range(min(len(values), 10)):
                group = f"[{label[i]}]" if several and label is not None else ""
                lines.append(f"  {name}{group} = {values[i]:.6g} +/- {errors[i]:.2g}")
            if len(values) > 10:
                lines.append(f"  ... {len(values) - 10} more groups")
        return "\n".join(lines)


def _best_of_each(numbers: NDArray[Any], errors: NDArray[Any]):
    """Groups, and of each the fit that says most: one that failed may have no error."""
    rank = np.where(np.isfinite(errors), 0, 1)
    order = np.lexsort((np.arange(len(numbers)), rank, numbers))
    found, first = np.unique(numbers[order], return_index=True)
    return found, order[first]
