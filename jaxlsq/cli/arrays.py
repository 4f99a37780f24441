"""Arrays in files: NumPy's ``.npy`` and ``.npz``, HDF5, zarr."""

import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SUFFIXES", "ArrayFile"]

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".zarr")


class ArrayFile:
    """The arrays of a file, by name; a ``.npy`` file has one, without a name.

    HDF5 and zarr arrays, and ``.npy`` files, are not read here, but in blocks by the fit.

    Parameters
    ----------
    path : str
    files : ExitStack
        Which closes what is opened.

    Raises
    ------
    ValueError, OSError, ImportError
        For what can't be read: damaged or cut off, not there, or of a package that is not there.
    """

    def __init__(self, path: str, files: ExitStack) -> None:
        self.name: str = path
        self.notes: list[str] = []
        self._arrays: Any
        suffix = Path(path).suffix.lower()
        if not Path(path).exists():
            raise FileNotFoundError(2, "No such file", path)
        if suffix == ".npy":
            self._arrays = {"": _numpy(path)}
        elif suffix == ".npz":
            self._arrays = files.enter_context(_numpy(path))
        elif suffix == ".zarr":
            self._arrays = _zarr(path)
        else:
            self._arrays = files.enter_context(_hdf5(path))

    def names(self) -> list[str]:
        """Of the arrays."""
        if isinstance(self._arrays, (dict, np.lib.npyio.NpzFile)):
            return list(self._arrays)
        if hasattr(self._arrays, "shape"):  # zarr: an array by itself
            return [""]
        return _below(self._arrays)

    def has(self, name: str) -> bool:
        """Whether there is an array of a name."""
        return name.strip("/") in self.names()

    def array(self, name: str) -> Any:
        """One array.

        Raises
        ------
        ValueError
            If there is none of this name.
        """
        name = name.strip("/")
        if name not in self.names():
            known = ", ".join(self.names()[:20]) or "none"
            raise ValueError(f"{self.name} has no array {name!r}; it has: {known}.")
        try:
            one = not name and hasattr(self._arrays, "shape")
            array: Any = self._arrays if one else self._arrays[name]
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise ValueError(f"{self.name} is damaged or cut off: {error}") from None
        missing = getattr(array, "nchunks", 0) - getattr(array, "nchunks_initialized", 0)
        if missing > 0:
            self.notes.append(
                f"{self.name}: {missing:,} of {array.nchunks:,} chunks of {name or 'the array'} "
                f"are not there, and read as {array.fill_value}."
            )
        return array

    def only(self, besides: Sequence[str | None]) -> str:
        """The name of the data where none is given: 'y', or that of the only array.

        Raises
        ------
        ValueError
            If there are several, or none.
        """
        names = self.names()
        if "y" in names:
            return "y"
        names = [name for name in names if name not in besides]
        if len(names) != 1:
            known = ", ".join(names[:20]) or "none"
            raise ValueError(
                f"{self.name} has these arrays: {known}; say which are the data: --y NAME."
            )
        return names[0]


def _numpy(path: str):
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from None


def _hdf5(path: str):
    try:
        import h5py
    except ImportError:
        raise ImportError("HDF5 files need h5py: pip install h5py.") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise OSError(f"{path} can't be read as HDF5: is it cut off? ({error})") from None


def _zarr(path: str):
    try:
        import zarr
    except ImportError:
        raise ImportError("zarr files need zarr: pip install zarr.") from None
    try:
        return zarr.open(path, mode="r")
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise ValueError(f"{path} can't be read as zarr: {error}") from None


def _below(group: Any, prefix: str = "") -> list[str]:
    """Names of arrays in a group and the groups in it."""
    names: list[str] = []
    for key in group:
        one = group[key]
        if hasattr(one, "shape"):
            names.append(prefix + key)
        elif hasattr(one, "keys"):
            names += _below(one, f"{prefix}{key}/")
    return names
