"""Results on disk, block by block: a zarr group, or a folder of ``.npz`` files."""

import importlib.util
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.labels import Coord, Labels
from jaxlsq.results import storage
from jaxlsq.results.grid import Box, Grid
from jaxlsq.results.tables import flags, free_names
from jaxlsq.status import Status

__all__ = ["ENCODED", "Store", "check_target", "open_store"]

DESCRIPTION = "run.json"
LABELS = "labels.npz"
ENCODED = "jaxlsq_dtype"
KEY = "jaxlsq"
# Arrays with one value for each fit, their types, and what is there before it is done.
_PER_FIT = {
    "cost": (np.float64, np.nan),
    "status": (np.int32, int(Status.INTERRUPTED)),
    "nfev": (np.int32, 0),
    "njev": (np.int32, 0),
    "nit": (np.int32, 0),
    "optimality": (np.float64, np.nan),
    "dof": (np.int32, 0),
    "agreed": (np.int32, 0),
}
_PER_PARAMETER = {"active_mask": (np.int8, 0), "fixed": (np.bool_, False)}
# What xarray's users see of those whose names say too little.
_LONG_NAMES = {
    "cost": "half the sum of squares, or of the loss",
    "nfev": "evaluations of the residual",
    "njev": "evaluations of the Jacobian",
    "nit": "iterations",
    "optimality": "largest element of the gradient",
    "dof": "degrees of freedom",
    "agreed": "starts that led to the same cost",
    "active_mask": "-1 at a lower bound, 1 at an upper one, 0 between",
    "fixed": "whether a parameter was held",
    "inverse": "inverse of J'J; times redchi, if sigma is not absolute, the covariance",
}


class Store(Protocol):
    """Where blocks of results are written and read.

    Attributes
    ----------
    description : dict
        Of what is in it: the batch, the block, the run.
    """

    description: dict[str, Any]

    def done(self) -> dict[int, int]:
        """Blocks that are written, and the checksums of the data that they were fitted to."""
        ...

    def write(self, box: Box, arrays: dict[str, NDArray[Any]], checksum: int) -> None:
        """Write a block; it counts as done after all of it is written."""
        ...

    def read(self, box: Box) -> dict[str, NDArray[Any]]:
        """The arrays of a block."""
        ...

    def engine(self, box: Box) -> NDArray[Any]:
        """The text of `FitResult.engine` of a block, without an axis."""
        ...

    def labels(self) -> Labels | None:
        """Of the batch."""
        ...


def check_target(path: Any) -> Path:
    """The path of a store; raise where it is none, or zarr is not installed."""
    path = Path(os.fspath(path))
    if path.suffix == ".npz" or path.is_file():
        raise ValueError(
            f"out={str(path)!r} must be a folder, which may be there, or end with .zarr; for one "
            "file save what fit returns with result.save(path)."
        )
    if path.suffix == ".zarr" and importlib.util.find_spec("zarr") is None:
        raise ImportError("out='....zarr' needs zarr 3: pip install zarr.")
    return path


def open_store(path: Any, description: dict[str, Any] | None = None, labels: Any = None) -> Store:
    """A store: one that is there, or a new one where a description of its content is given.

    Parameters
    ----------
    path : path
    description : dict, optional
    labels : Labels, optional
        Of the batch, for a new one.

    Raises
    ------
    ValueError
        For a folder that holds something else.
    FileNotFoundError
        If nothing is there, and nothing is described.
    """
    path = Path(os.fspath(path))
    kind = _Zarr if path.suffix == ".zarr" else _Folder
    if path.is_dir() and any(path.iterdir()):
        return kind(path)
    if description is None:
        raise FileNotFoundError(f"there are no results in {str(path)!r}.")
    return kind.new(path, description, labels)


def _not_ours(path: Path, why: object):
    return ValueError(f"out={str(path)!r} holds no results of fit ({why}); give another folder.")


class _Folder:
    """A folder of ``.npz`` files, one for each block."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.description = json.loads((path / DESCRIPTION).read_text())
        except (FileNotFoundError, json.JSONDecodeError) as error:
            raise _not_ours(path, f"{DESCRIPTION}: {error}") from None

    @classmethod
    def new(cls, path: Path, description: dict[str, Any], labels: Labels | None):
        """An empty one."""
        path.mkdir(parents=True, exist_ok=True)
        if labels is not None:
            storage.replaced(path / LABELS, storage.labels_written(labels))
        beside = path / f"{DESCRIPTION}.tmp"
        beside.write_text(json.dumps(description))
        os.replace(beside, path / DESCRIPTION)
        return cls(path)

    def _file(self, number: int):
        return self.path / f"block-{number:06d}.npz"

    def done(self) -> dict[int, int]:
        """As a `Store`."""
        found: dict[int, int] = {}
        for file in self.path.glob("block-*.npz"):
            try:
                with np.load(file) as arrays:
                    found[int(file.stem.split("-")[1])] = int(arrays["checksum"])
            except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(
                    f"{str(file)!r} is damaged ({error}); remove it, and its fits are done again."
                ) from error
        return found

    def write(self, box: Box, arrays: dict[str, NDArray[Any]], checksum: int):
        """As a `Store`."""
        storage.replaced(self._file(box.number), arrays | {"checksum": np.uint64(checksum)})

    def read(self, box: Box):
        """As a `Store`."""
        with np.load(self._file(box.number)) as arrays:
            return {name: arrays[name] for name in arrays.files if name != "checksum"}

    def engine(self, box: Box):
        """As a `Store`."""
        with np.load(self._file(box.number)) as arrays:
            return arrays["engine"]

    def labels(self):
        """As a `Store`."""
        if not (self.path / LABELS).exists():
            return None
        with np.load(self.path / LABELS) as arrays:
            return storage.labels_read(arrays, tuple(self.description["batch"]))


class _Zarr:
    """A zarr group, which xarray opens: an array for each parameter, in chunks of a block."""

    def __init__(self, path: Path):
        import zarr

        self.path = path
        try:
            self.group: Any = zarr.open_group(path, mode="r+", use_consolidated=False)
            self.description: dict[str, Any] = dict(self.group.attrs)[KEY]
        except (FileNotFoundError, KeyError) as error:
            raise _not_ours(path, f"{type(error).__name__}: {error}") from None
        self.marks, self.engines = self.group["run/checksum"], self.group["run/engine"]

    @classmethod
    def new(cls, path: Path, description: dict[str, Any], labels: Labels | None):
        """An empty one; it is in its place when its description is complete."""
        import zarr

        batch = tuple(description["batch"])
        more = {"labelled": labels is not None}
        labels = labels or Labels.numbered(batch)
        more |= {"coords": list(labels.coords)}
        names = description["names"]
        taken = {*_PER_FIT, *_PER_PARAMETER, "inverse", *labels.dims, *labels.coords, "param"}
        taken |= {"param_j", "run", "success"}  # the last is made by `StoredResult.to_dataset`
        variables = free_names(names, taken)
        beside = path.with_name(f"{path.name}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        group: Any = zarr.create_group(beside, overwrite=True)
        grid = Grid(batch, tuple(description["block"]))

        def create(
            name: str, dtype: Any, fill: Any, tail: tuple[int, ...] = (), dims: tuple[str, ...] = ()
        ):
            group.create_array(
                name,
                shape=(*batch, *tail),
                chunks=(*grid.block, *tail),
                dtype=np.dtype(dtype),
                fill_value=fill,
                dimension_names=(*labels.dims, *dims),
                attributes=_attributes(name),
                # The last digits of real numbers do not compress: trying takes as long as a fit.
                compressors=None if np.dtype(dtype).kind == "f" else "auto",
            )

        for name in variables:
            create(name, np.float64, np.nan)
            create(f"{name}_stderr", np.float64, np.nan)
        for name, (dtype, fill) in _PER_FIT.items():
            create(name, dtype, fill)
        n = len(names)
        for name, (dtype, fill) in _PER_PARAMETER.items():
            create(name, dtype, fill, (n,), ("param",))
        create("inverse", np.float64, np.nan, (n, n), ("param", "param_j"))
        _write_coords(group, labels, names)
        run = group.create_group("run")
        each = {"shape": (len(grid),), "chunks": (1,)}
        run.create_array("checksum", dtype=np.uint64, fill_value=0, **each)
        run.create_array("engine", dtype=str, fill_value="", **each)
        group.attrs.update({KEY: description | more | {"variables": variables}})
        os.replace(beside, path)
        return cls(path)

    def done(self):
        """As a `Store`."""
        marks = np.asarray(self.marks[:])
        return {int(number): int(marks[number]) for number in np.flatnonzero(marks)}

    def write(self, box: Box, arrays: dict[str, NDArray[Any]], checksum: int):
        """As a `Store`."""
        rest = dict(arrays)
        x, stderr, engine = (rest.pop(name) for name in ("x", "stderr", "engine"))
        for j, name in enumerate(self.description["variables"]):
            self.group[name][box.slices] = x[..., j]
            self.group[f"{name}_stderr"][box.slices] = stderr[..., j]
        for name, values in rest.items():
            self.group[name][box.slices] = values
        self.engines[box.number] = str(engine)
        self.marks[box.number] = np.uint64(checksum)

    def read(self, box: Box):
        """As a `Store`."""
        variables = self.description["variables"]
        names = (*_PER_FIT, *_PER_PARAMETER, "inverse")
        arrays = {name: np.asarray(self.group[name][box.slices]) for name in names}
        columns = [np.asarray(self.group[name][box.slices]) for name in variables]
        return arrays | {"x": np.stack(columns, axis=-1), "engine": self.engine(box)}

    def engine(self, box: Box):
        """As a `Store`."""
        return np.array(str(self.engines[box.number]))

    def labels(self):
        """As a `Store`."""
        if not self.description["labelled"]:
            return None
        dims = self.group["cost"].metadata.dimension_names
        coords: dict[str, Coord] = {}
        for name in self.description["coords"]:
            array = self.group[name]
            attrs, values = dict(array.attrs), np.asarray(array[...])
            kind = attrs.pop(ENCODED, None)
            values = np.array(values.tolist()) if values.dtype.kind in "OT" else values
            values = values.astype(kind) if kind else values
            attrs = {k: v for k, v in attrs.items() if not (kind and k == "units")}
            coords[name] = Coord(tuple(array.metadata.dimension_names), values, attrs)
        return Labels(tuple(dims), tuple(self.description["batch"]), coords)


def _attributes(name: str) -> dict[str, Any]:
    """What xarray's users are told of an array."""
    said: dict[str, Any] = {"long_name": _LONG_NAMES[name]} if name in _LONG_NAMES else {}
    if name == "status":
        said |= {key: np.asarray(value).tolist() for key, value in flags().items()}
    return said


def _write_coords(group: Any, labels: Labels, names: Sequence[str]) -> None:
    """Coordinates of the batch, as xarray reads them; what zarr has no type for becomes text."""
    coords = {name: (one.dims, one.values, one.attrs) for name, one in labels.coords.items()}
    coords |= {name: ((name,), np.array(names), {}) for name in ("param", "param_j")}
    for name, (dims, values, attrs) in coords.items():
        values = np.asarray(values)
        kind = str if values.dtype.kind in "OUT" else None
        if kind is str:
            values = values.astype(str).astype(object)
        elif values.dtype.kind in "mM":
            values, attrs = _encoded(values, attrs)
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=kind or values.dtype,
            dimension_names=dims,
            chunks="auto",
        )
        array[...] = values
        array.attrs.update({str(k): v for k, v in attrs.items() if _is_plain(v)})
    group.attrs["coordinates"] = " ".join(coords)


def _encoded(values: NDArray[Any], attrs: Mapping[Any, Any]):
    """Dates and spans of time as whole nanoseconds, as the CF conventions write them."""
    units = "nanoseconds since 1970-01-01" if values.dtype.kind == "M" else "nanoseconds"
    kind = "datetime64[ns]" if values.dtype.kind == "M" else "timedelta64[ns]"
    more = {"units": units, ENCODED: kind}
    return values.astype(kind).astype(np.int64), {**attrs, **more}


def _is_plain(value: Any):
    return isinstance(value, (str, int, float, bool))
