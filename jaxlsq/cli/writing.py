"""Results in files: written beside and renamed, and elsewhere where that fails."""

import csv
import importlib.util
import io
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.cli.columns import columns
from jaxlsq.cli.frames import check_parquet, to_parquet
from jaxlsq.results.replacing import put
from jaxlsq.results.result import FitResult

__all__ = ["SUFFIXES", "Lost", "check", "keep"]

SUFFIXES = (".csv", ".tsv", ".parquet", ".npz", ".zarr")


# What ends a write: the disk, a second Ctrl-C, and data that are gone when errors are asked for.
FAILURES = (OSError, ValueError, RuntimeError, KeyboardInterrupt)


class Lost(Exception):
    """A file that could not be written; of results the message says where they are instead."""


def check(path: str, inputs: list[str], suffixes: tuple[str, ...]) -> None:
    """Raise where a file can't be written later, as far as that is known before.

    Parameters
    ----------
    path : str
    inputs : list of str
        Files that are read, which are not to be written over.
    suffixes : tuple of str
        Ends of names that can be written.

    Raises
    ------
    ValueError, OSError, ImportError
    """
    place, suffix = Path(path), Path(path).suffix.lower()
    if suffix not in suffixes:
        raise ValueError(
            f"{path}: expected a name that ends in one of {' '.join(suffixes)}; got {suffix!r}."
        )
    folder = place.parent
    if not folder.is_dir():
        raise FileNotFoundError(2, "No such folder", str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(13, "The folder can't be written to", str(folder))
    if place.is_dir() and suffix != ".zarr":
        raise IsADirectoryError(21, "A folder is in the place of this file", path)
    if place.exists() and any(Path(one).exists() and place.samefile(one) for one in inputs):
        raise ValueError(f"{path} is the file of the data, which would be written over.")
    if suffix == ".parquet":
        check_parquet()
    if suffix == ".zarr" and importlib.util.find_spec("zarr") is None:
        raise ImportError("zarr files need zarr: pip install zarr.")


def keep(result: FitResult, path: str) -> None:
    """Write a result.

    What was at the path stays until all is written.  If it can't be written the result is
    saved in the folder for temporary files and, if that fails too, printed.

    Parameters
    ----------
    result : FitResult
    path : str
        Whose end is one of `SUFFIXES`: tables of `columns`, or what `FitResult.save` writes.

    Raises
    ------
    Lost
        If it is elsewhere.
    """
    suffix = Path(path).suffix.lower()

    def write(place: str) -> None:
        if suffix == ".zarr":
            _write_zarr(columns(result), place)
            return
        data = _bytes(result, suffix)
        with open(place, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    try:
        put(path, write)
    except FAILURES as error:
        why = f"{path} could not be written: {_reason(error)}."
        raise Lost(f"{why} {_rescued(result)}") from error


def _rescued(result: FitResult):
    """Save a result elsewhere, and say where."""
    place = os.path.join(tempfile.gettempdir(), f"jaxlsq-{uuid.uuid4().hex[:8]}.npz")
    try:
        result.save(place)
    except FAILURES as error:
        sys.stdout.write(_text(columns(result, stderr=False), ","))
        sys.stdout.flush()
        return f"Nor could {place} ({_reason(error)}): the results are on standard output, as CSV."
    return f"The results are in {place}: jaxlsq.FitResult.load reads them."


def _reason(error: BaseException):
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return getattr(error, "strerror", None) or str(error)


def _bytes(result: FitResult, suffix: str):
    """What a file is to hold."""
    if suffix in (".csv", ".tsv"):
        return _text(columns(result), "," if suffix == ".csv" else "\t").encode()
    buffer = io.BytesIO()
    if suffix == ".npz":
        result.save(buffer)
    else:
        to_parquet(columns(result), buffer)
    return buffer.getvalue()


def _text(rows: dict[str, NDArray[Any]], delimiter: str) -> str:
    """Lines of cells; numbers with all the digits that tell them from others of their type."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerow(rows)
    writer.writerows(zip(*map(_cells, rows.values()), strict=True))
    return buffer.getvalue()


def _cells(values: NDArray[Any]) -> list[Any]:
    # str() of a float32 has as many digits as it needs; as a Python float it would need 17.
    return list(map(str, values)) if values.dtype == np.float32 else values.tolist()


def _write_zarr(rows: dict[str, NDArray[Any]], place: str):
    """A group with an array for each column."""
    import zarr
    from numpy.dtypes import StringDType

    group = zarr.open_group(place, mode="w")
    for name, values in rows.items():
        if values.dtype.kind in "US" or values.dtype == object:
            values = np.array(values.tolist(), StringDType())
        group.create_array(name, data=values)
