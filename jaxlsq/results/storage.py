"""Results in files, in pickles, and joined: everything but the data."""

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Coord, Labels
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.types import Batch, PyTree
from jaxlsq.results.replacing import put
from jaxlsq.results.shared import Shares

__all__ = [
    "ARRAYS",
    "described",
    "from_arrays",
    "joined",
    "labels_read",
    "labels_written",
    "portable",
    "read",
    "replaced",
    "restored",
    "written",
]

VERSION = 1
# Before the names of what a model derives.
DERIVED = "derived."
ARRAYS = (
    *("x", "cost", "status", "nfev", "njev", "nit", "optimality", "dof", "agreed"),
    *("active_mask", "fixed"),
)
# Arrays with one value for each parameter.
_PER_PARAMETER = ("x", "active_mask", "fixed")
_FLAGS = ("of_counts", "absolute_sigma")


def portable(result: Any) -> dict[str, Any]:
    """Fields by name, without the data: with what `cov` is made of, and the layout as a pytree.

    Where the data are gone or have changed, there is no `cov` later.
    """
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    for name, ask in (("inverse", "inverse_gram"), ("derivations", "derived_by_name")):
        try:
            found = getattr(result, ask)
            values[name] = found() if callable(found) else found
        except (ValueError, RuntimeError, OSError):  # a closed file, say; the rest is worth keeping
            values[name] = None
    places = result.layout.unpack(np.arange(len(result.names)))
    return values | {"problem": None, "layout": places}


def restored(values: dict[str, Any]) -> dict[str, Any]:
    """Fields by name, from what `portable` gave."""
    return values | {"layout": _layout(values["layout"])}


def _layout(places: PyTree) -> Layout:
    """The layout of a pytree, whose leaves say where in the vector they are."""
    for make in (getattr(Layout, "as_given", Layout.of), Layout.of):
        layout = make(places)
        if np.array_equal(layout.pack(places), np.arange(layout.n)):
            return layout
    raise ValueError("the order of its parameters is not one of theirs")


# --- files ------------------------------------------------------------------------


def written(result: Any, target: Any) -> None:
    """Write a result; what was at a path stays until all of it is written."""
    values = portable(result)
    arrays = {name: values[name] for name in (*ARRAYS, *_FLAGS)}
    if values["inverse"] is not None:
        arrays["inverse"] = values["inverse"]
    shapes = json.dumps(_shapes(values["layout"]))
    arrays |= {"engine": np.array(result.engine), "names": np.array(result.names)}
    arrays |= {"shapes": shapes, "version": VERSION}
    if result.labels is not None:
        arrays |= labels_written(result.labels.grid())
    if result.sharing is not None:
        arrays |= result.sharing.written()
    for name, pair in (values["derivations"] or {}).items():
        arrays[DERIVED + name] = pair
    if hasattr(target, "write"):
        np.savez(target, **arrays)
        return
    replaced(_with_suffix(target), arrays)


def replaced(path: Any, arrays: dict[str, Any]) -> None:
    """Write an ``.npz`` file; what was there stays until all of it is written."""

    def write(place: str) -> None:
        with open(place, "xb") as file:
            np.savez(file, **arrays)

    put(path, write)


def _places(shapes: Any, n: int) -> PyTree:
    """A pytree of parameters' places in the vector, from what `_shapes` gave."""
    if shapes is None:
        return np.arange(n)
    ends = np.cumsum([0] + [math.prod(shape) for _, shape in shapes])
    if ends[-1] != n:
        raise ValueError(f"it has {n} names of {ends[-1]} parameters")
    return {
        key: np.arange(first, last).reshape(shape)
        for (key, shape), first, last in zip(shapes, ends[:-1], ends[1:], strict=True)
    }


def described(result: Any) -> dict[str, Any]:
    """What of a result, or of its problem, is not in its arrays, as JSON has it."""
    places = result.layout.unpack(np.arange(len(result.names)))
    flags = {name: bool(getattr(result, name)) for name in _FLAGS}
    return flags | {"names": list(result.names), "shapes": _shapes(places)}


def from_arrays(arrays: dict[str, NDArray[Any]], description: dict[str, Any]) -> dict[str, Any]:
    """Fields by name, from arrays and what `described` gave."""
    names = tuple(description["names"])
    values = {name: arrays[name] for name in (*ARRAYS, "inverse")}
    flags = {name: description[name] for name in _FLAGS}
    layout = _layout(_places(description["shapes"], len(names)))
    return values | flags | {"names": names, "layout": layout, "engine": str(arrays["engine"])}


def labels_written(labels: Labels) -> dict[str, Any]:
    """Arrays by name; what NumPy has no type for becomes text."""
    coords = [[name, one.dims, _texts(one.attrs)] for name, one in labels.coords.items()]
    out: dict[str, Any] = {"labels": json.dumps([labels.dims, coords])}
    for number, one in enumerate(labels.coords.values()):
        values = np.asarray(one.values)
        out[f"label.{number}"] = values.astype(str) if values.dtype == object else values
    return out


def _texts(attrs: Mapping[Any, Any]) -> dict[str, str]:
    return {
        str(key): value if isinstance(value, str) else str(value) for key, value in attrs.items()
    }


def labels_read(arrays: Any, batch: Batch) -> Labels | None:
    """`Labels` as they were written, or None."""
    if "labels" not in arrays:
        return None
    dims, coords = json.loads(str(arrays["labels"]))
    read = {
        name: Coord(tuple(of), arrays[f"label.{number}"], attrs)
        for number, (name, of, attrs) in enumerate(coords)
    }
    return Labels(tuple(dims), batch, read)


def _shapes(places: PyTree) -> list[Any] | None:
    """Keys and shapes of a dict of arrays in the order of the vector; None for all else."""
    if not isinstance(places, dict) or not all(isinstance(v, np.ndarray) for v in places.values()):
        return None
    keys = sorted(places, key=lambda key: np.min(places[key], initial=0))
    return [[key, places[key].shape] for key in keys]


def read(source: Any) -> dict[str, Any]:
    """Fields by name, of a file that `written` wrote.

    Raises
    ------
    ValueError
        Which names the file and says what is wrong with it.
    """
    is_file = hasattr(source, "read")
    name = getattr(source, "name", "the file") if is_file else _with_suffix(source)
    try:
        file = np.load(source if is_file else name)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array alone")
        with file:
            arrays: dict[str, NDArray[Any]] = {key: file[key] for key in file.files}
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except (ValueError, EOFError, OSError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(name, f"it is damaged, or no .npz file ({error})") from error
    missing = sorted({*ARRAYS, *_FLAGS, "names", "shapes", "version"} - set(arrays))
    if "version" in missing and {"x", "status", "names"} <= set(arrays):
        raise _unreadable(name, "an older version wrote it, which this one can't read")
    if missing:
        raise _unreadable(name, f"it has no {', '.join(missing)}")
    if arrays["version"] != VERSION:
        raise _unreadable(name, f"its format is {arrays['version']}, and this one's {VERSION}")
    try:
        return _fields(arrays)
    except (ValueError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise _unreadable(name, str(error)) from error


def _unreadable(name: Any, why: object) -> ValueError:
    return ValueError(f"{name} is not a result that FitResult.save wrote: {why}.")


def _fields(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Of a result, with their shapes checked."""
    values: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
    names, batch = tuple(arrays["names"].tolist()), arrays["status"].shape
    n = len(names)
    expected = {name: (*batch, n) if name in _PER_PARAMETER else batch for name in ARRAYS}
    values["inverse"], values["engine"] = arrays.get("inverse"), str(arrays.get("engine", ""))
    if values["inverse"] is not None:
        expected["inverse"] = (*batch, n, n)
    for name, shape in expected.items():
        if values[name].shape != shape:
            raise ValueError(f"{name} has the shape {values[name].shape} and not {shape}")
    places = _places(json.loads(str(arrays["shapes"])), n)
    flags = {name: bool(arrays[name]) for name in _FLAGS}
    more = {"labels": labels_read(arrays, batch), "sharing": Shares.read(arrays, batch)}
    more |= {"derivations": _derivations(arrays, batch)}
    return values | flags | {"names": names, "layout": _layout(places)} | more


def _derivations(
    arrays: Mapping[str, NDArray[Any]], batch: Batch
) -> dict[str, NDArray[Any]] | None:
    """What the model derives, by name, or None."""
    found = {k.removeprefix(DERIVED): arrays[k] for k in arrays if k.startswith(DERIVED)}
    if any(pair.shape != (*batch, 2) for pair in found.values()):
        raise ValueError(f"what the model derives is not of the batch {batch}")
    return found or None


def _with_suffix(path: Any) -> str:
    """What NumPy makes of a path that it saves to."""
    place: str = os.fspath(path)
    return place if place.endswith(".npz") else place + ".npz"


# --- several ----------------------------------------------------------------------


def joined(results: Sequence[Any]) -> dict[str, Any]:
    """Fields by name, of results one after the other."""
    if not results:
        raise ValueError("concat needs at least one result.")
    if not all(hasattr(result, "layout") for result in results):
        raise TypeError(f"concat needs FitResults, got {[type(r).__name__ for r in results]}.")
    if any(result.sharing is not None for result in results):
        raise ValueError("concat is of fits apart; results whose fits share parameters stay apart.")
    if any(not result.shape for result in results):
        raise ValueError(
            "concat joins batches along their first axis, and single fits have none: keep it "
            "with result[i:i + 1]."
        )
    first = results[0]
    if any(_kind(result) != _kind(first) for result in results):
        raise ValueError(
            "concat needs results with the same parameters, kind of loss and absolute_sigma."
        )
    shapes = [result.shape for result in results]
    if len({shape[1:] for shape in shapes}) != 1:
        raise ValueError(f"concat needs batches that differ along their first axis, got {shapes}.")
    parts = [portable(result) for result in results]
    values: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) for name in ARRAYS
    }
    inverses = [part["inverse"] for part in parts]
    known = all(inverse is not None for inverse in inverses)
    values["inverse"] = np.concatenate(inverses) if known else None
    same = {name: getattr(first, name) for name in ("names", "layout", *_FLAGS)}
    derived: list[dict[str, Any]] = [part["derivations"] or {} for part in parts]
    if all(set(one) == set(derived[0]) for one in derived):
        both = {name: np.concatenate([one[name] for one in derived]) for name in derived[0]}
        same["derivations"] = both or None
    return values | same | {"labels": Labels.joined([result.labels for result in results])}


def _kind(result: Any) -> tuple[Any, ...]:
    """What results that are joined have in common."""
    places = result.layout.unpack(np.arange(len(result.names)))
    leaves, tree = jax.tree.flatten(places)
    where = tuple((leaf.shape, tuple(leaf.ravel().tolist())) for leaf in leaves)
    return result.names, tree, where, *(getattr(result, name) for name in _FLAGS)
