"""What a result becomes: tables, files, pickles, a part of a longer result."""

from collections.abc import Iterable
from typing import Any, Self

from numpy.typing import NDArray

from jaxlsq.results import storage, tables

__all__ = ["Kept"]


class Kept:
    """How a `FitResult` is kept, and joined with others."""

    def to_dict(self, stderr: bool = False) -> dict[str, NDArray[Any]]:
        """Parameters by name (with ``_param`` where that is taken), and the other arrays.

        Parameters
        ----------
        stderr : bool
            Whether there are standard errors, ``<name>_stderr``, beside the parameters.
        """
        return tables.columns(self, stderr)

    def to_frame(self, library: str | None = None, stderr: bool = True) -> Any:
        """A DataFrame with one row for each fit, in the order of the batch.

        Its index is that of the data, if they came as a table, groups of one, or an array with
        coordinates; else fits are counted along each axis of the batch.  polars has it in columns.
        A parameter that ended at a bound, or is fixed, has an error of zero; ``at_bound`` says
        which fits have one at a bound.

        Parameters
        ----------
        library : {'pandas', 'polars'}, optional
            Whose; the first of the two that is installed if not given.
        stderr : bool
            Whether there are standard errors, ``<name>_stderr``, beside the parameters.

        Raises
        ------
        ImportError
            If it is not installed.
        """
        return tables.frame(self, library, stderr)

    def to_dataset(self, stderr: bool = True, cov: bool = False) -> Any:
        """An xarray Dataset: a variable for each parameter, with the dims of the batch.

        The dims and coordinates are those of the data, if those were an xarray DataArray or a
        table; `status` has its codes' meaning in its attributes.

        Parameters
        ----------
        stderr : bool
            Whether there are standard errors, ``<name>_stderr``.
        cov : bool
            Whether there is the covariance, with the dims ``param_i`` and ``param_j``.

        Raises
        ------
        ImportError
            If xarray is not installed.
        """
        return tables.dataset(self, stderr, cov)

    def save(self, path: Any) -> None:
        """Write everything but the data to an ``.npz`` file.

        Parameters that are neither an array nor a dict of arrays are read back as an array.

        Parameters
        ----------
        path : str, path or file object
            A file that is there is replaced when all is written.
        """
        storage.written(self, path)

    @classmethod
    def load(cls, path: Any) -> Self:
        """Read what `save` wrote; the result has its `cov`, and no data for `refit`, say.

        Raises
        ------
        ValueError
            For a file that `save` of this version did not write, or that is damaged.
        """
        return cls(**storage.read(path))

    @classmethod
    def concat(cls, results: Iterable[Self]) -> Self:
        """One result from several with the same parameters, along the first axis.

        It has their `cov`, and not their data.
        """
        return cls(**storage.joined(list(results)))

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and other processes: everything but the data, as `save` writes it."""
        return storage.portable(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(storage.restored(state))
