"""Tables in Parquet files, read by whichever of polars and pandas is there."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameTable", "check_parquet", "to_parquet"]


class FrameTable:
    """A table with the methods of `jaxlsq.cli.text.TextTable`, of a Parquet file."""

    def __init__(self, path: str) -> None:
        self.name: str = path
        self.named: bool = True
        self.notes: list[str] = []
        self._frame = _read(path)
        self.head: list[str] = [str(name) for name in self._frame.columns]
        if not self.head or not len(self._frame):
            raise ValueError(f"{path} has no data in it.")

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return self.head

    def is_number(self, cell: str) -> bool:
        """Whether a column's name is a number."""
        try:
            float(cell)
        except ValueError:
            return False
        return True

    def places(self, first: int) -> NDArray[Any]:
        """The names from the first on, which are numbers, as an array."""
        return np.array(self.head[first:], float)

    def begins_with_text(self) -> bool:
        """Whether the first column has texts."""
        return self._column(0).dtype.kind not in "fiub"

    def read(
        self, numbers: Sequence[int], texts: Sequence[int] = ()
    ) -> tuple[NDArray[Any], list[list[str]]]:
        """Columns of numbers as an array (rows, columns), and columns of text as lists."""
        columns = [self._numbers(i) for i in numbers]
        lists = [[str(value) for value in self._column(i).tolist()] for i in texts]
        return np.stack(columns, axis=1) if columns else np.empty((len(self._frame), 0)), lists

    def _column(self, i: int):
        return self._frame[self._frame.columns[i]].to_numpy()

    def _numbers(self, i: int):
        column = self._column(i)
        if column.dtype.kind not in "fiub":
            raise ValueError(
                f"{self.name}, column {self.head[i]!r}: {column.dtype} are no numbers. Choose the "
                "columns with numbers by --x and --y."
            )
        return column if column.dtype.kind == "f" else column.astype(float)


def _read(path: str) -> Any:
    """A polars or pandas table."""
    try:
        import polars
    except ImportError:
        return _read_by_pandas(path)
    try:
        with open(path, "rb") as file:
            return polars.read_parquet(file)
    except polars.exceptions.PolarsError as error:
        raise _unreadable(path, error) from None


def _read_by_pandas(path: str):
    try:
        import pandas

        return pandas.read_parquet(path)
    except ImportError:
        raise _no_reader() from None
    except ValueError as error:  # pyarrow's errors are of its kind
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception):
    return ValueError(
        f"{path} can't be read as Parquet: is it cut off? ({str(error).splitlines()[0]})"
    )


def _no_reader():
    return ImportError(
        "Parquet files need polars, or pandas with pyarrow: pip install polars. Or use CSV."
    )


def to_parquet(columns: dict[str, Any], file: Any) -> None:
    """Write columns to an open file.

    Raises
    ------
    ImportError
        Where there is nothing to write it with.
    """
    try:
        import polars
    except ImportError:
        try:
            import pandas

            pandas.DataFrame(columns).to_parquet(file, index=False)
        except ImportError:
            raise _no_reader() from None
    else:
        polars.DataFrame(columns).write_parquet(file)


def check_parquet() -> None:
    """Raise ImportError where Parquet can't be written."""
    to_parquet({"a": np.zeros(1)}, io.BytesIO())
