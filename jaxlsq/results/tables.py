"""Results as tables: columns, DataFrames of pandas and polars, Datasets of xarray."""

import importlib.util
import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Labels
from jaxlsq.results import storage
from jaxlsq.status import Status, describe

__all__ = ["columns", "dataset", "flags", "frame", "frame_of", "free_names"]

LIBRARIES = ("pandas", "polars")
# What is said of each fit, but for its parameters.
PER_FIT = ("success", "status", "message", "cost", "redchi", "nfev", "dof", "at_bound")


def columns(result: Any, stderr: bool) -> dict[str, NDArray[Any]]:
    """Arrays of the batch's shape by name, as `FitResult.to_dict` has them."""
    per_fit = [n for n in storage.ARRAYS[1:] if getattr(result, n).shape == result.shape]
    rest = {name: getattr(result, name) for name in (*per_fit, "success", "at_bound")}
    return _of_parameters(result, stderr, rest) | rest


def _of_parameters(result: Any, stderr: bool, taken: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Parameters by name, and their standard errors beside them; ``_param`` where one is taken."""
    values = list(np.moveaxis(result.x, -1, 0))
    errors = [None] * len(values)
    if stderr:
        errors = np.moveaxis(np.sqrt(np.diagonal(result.cov, axis1=-2, axis2=-1)), -1, 0)
    out: dict[str, NDArray[Any]] = {}
    names = free_names(result.names, taken, stderr)
    for name, value, error in zip(names, values, errors, strict=True):
        out[name] = value
        if error is not None:
            out[f"{name}_stderr"] = error
    return out


def free_names(names: Iterable[str], taken: Iterable[Hashable], stderr: bool = True) -> list[str]:
    """Parameters' names for columns: with ``_param`` where that, or its error's, is taken.

    Parameters
    ----------
    names : sequence of str
    taken : set
        Names of other columns.
    stderr : bool
        Whether there is a column ``<name>_stderr`` beside each.
    """
    used, found = {*taken}, list[str]()
    for name in names:
        while name in used or (stderr and f"{name}_stderr" in used):
            name = f"{name}_param"
        found.append(name)
        used |= {name, f"{name}_stderr"} if stderr else {name}
    return found


def frame(result: Any, library: str | None, stderr: bool) -> Any:
    """One row for each fit, as `FitResult.to_frame` gives it."""
    library = _library(library)
    labels = result.labels or Labels.numbered(result.shape)
    index, others = labels.of_each()
    codes = result.status.reshape(-1)
    known: NDArray[Any] = np.unique(codes)
    words = [Status(code).name for code in known], [describe(code) for code in known]
    places: NDArray[Any] = np.searchsorted(known, codes)
    data = {name: getattr(result, name) for name in PER_FIT if name not in ("status", "message")}
    taken = {*PER_FIT, *index, *others}
    rows: dict[str, Any] = others | {
        k: v.reshape(-1) for k, v in _of_parameters(result, stderr, taken).items()
    }
    for name in PER_FIT:
        rows[name] = data[name].reshape(-1) if name in data else None
    texts: dict[str, list[str]] = dict(zip(("status", "message"), words, strict=True))
    if library == "pandas":
        return _pandas(rows, index, texts, places)
    return _polars(rows, index, texts, places)


def frame_of(
    labels: Labels | None, shape: tuple[int, ...], columns: dict[str, NDArray[Any]], library: Any
) -> Any:
    """One row for each fit of a batch, with other columns than those of a result."""
    library = _library(library)
    index, others = (labels or Labels.numbered(shape)).of_each()
    flat = {name: values.reshape(-1) for name, values in columns.items()}
    make = _pandas if library == "pandas" else _polars
    return make(others | flat, index, {}, np.arange(math.prod(shape)))


def _library(name: str | None) -> str:
    """The library of that name, or the first that is installed."""
    if name is not None and name not in LIBRARIES:
        raise ValueError(f"library must be one of {LIBRARIES} or None, got {name!r}.")
    for candidate in (name,) if name else LIBRARIES:
        if importlib.util.find_spec(candidate) is not None:
            return candidate
    wanted = name or " or ".join(LIBRARIES)
    raise ImportError(f"to_frame needs {wanted}: pip install {name or LIBRARIES[0]}.")


def _pandas(
    rows: dict[str, Any],
    index: Mapping[str, NDArray[Any]],
    texts: Mapping[str, list[str]],
    places: NDArray[Any],
) -> Any:
    import pandas as pd

    for name, words in texts.items():
        # Two codes may be described by the same words.
        different = list(dict.fromkeys(words))
        numbers = np.array([different.index(word) for word in words], np.intp)
        rows[name] = pd.Categorical.from_codes(numbers[places], categories=different)
    if not index:
        return pd.DataFrame(rows, index=pd.RangeIndex(len(places)))
    arrays = [pd.Index(values, name=name) for name, values in index.items()]
    keys = arrays[0] if len(arrays) == 1 else pd.MultiIndex.from_arrays(arrays)
    return pd.DataFrame(rows, index=keys)


def _polars(
    rows: dict[str, Any],
    index: Mapping[str, NDArray[Any]],
    texts: Mapping[str, list[str]],
    places: NDArray[Any],
) -> Any:
    import polars as pl

    for name, words in texts.items():
        kind = pl.Categorical()
        rows[name] = pl.Series(np.array(words)[places]).cast(kind)
    return pl.DataFrame({name: _plain(v) for name, v in index.items()} | rows)


def _plain(values: NDArray[Any]) -> Any:
    """An array of a type that polars takes."""
    return values.tolist() if values.dtype == object else values


def dataset(result: Any, stderr: bool, cov: bool) -> Any:
    """An xarray Dataset, as `FitResult.to_dataset` gives it."""
    try:
        import xarray as xr
    except ImportError:
        raise ImportError("to_dataset needs xarray: pip install xarray.") from None
    labels = (result.labels or Labels.numbered(result.shape)).grid()
    coords = {name: (one.dims, one.values, one.attrs) for name, one in labels.coords.items()}
    said = [name for name in PER_FIT if name != "message"]
    taken = {*said, *coords, *labels.dims, "cov", "param_i", "param_j"}
    variables: dict[str, tuple[Any, ...]] = {
        name: (labels.dims, values)
        for name, values in _of_parameters(result, stderr, taken).items()
    }
    for name in said:
        attrs = flags() if name == "status" else {}
        variables[name] = (labels.dims, getattr(result, name), attrs)
    if cov:
        pairs = ("param_i", "param_j")
        variables["cov"] = ((*labels.dims, *pairs), result.cov)
        coords |= {pair: (pair, list(result.names)) for pair in pairs}
    return xr.Dataset(variables, coords)


def flags() -> dict[str, Any]:
    """What the codes mean, as the CF conventions write it."""
    codes = [code for code in Status if code.name != "RUNNING"]
    values = np.array([int(code) for code in codes], np.int32)
    return {"flag_values": values, "flag_meanings": " ".join(code.name for code in codes)}
