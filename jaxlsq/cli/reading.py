"""Files as data sets."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from jaxlsq.cli.arrays import ArrayFile
from jaxlsq.cli.data import Data, Wanted
from jaxlsq.cli.places import Elsewhere, in_name, opened
from jaxlsq.cli.tables import in_columns, in_groups, in_rows

__all__ = ["read"]


def read(path: str, wanted: Wanted, files: ExitStack) -> tuple[Data, list[str]]:
    """Data sets of a file.

    Parameters
    ----------
    path : str
        Of a table or of arrays; ``file.h5::/group/y`` is an array in a file, and "-" is a text from
        standard input.
    wanted : Wanted
    files : ExitStack
        Which closes what is opened; arrays in HDF5 and zarr are read when they are fitted.

    Returns
    -------
    data : Data
    notes : list of str
        What has to be said of the files.

    Raises
    ------
    ValueError, OSError, ImportError
        For what can't be read, or not in this way; in one to three lines that name the file.
    """
    file, name = in_name(path)
    source = opened(file, wanted.style, files)
    elsewhere = Elsewhere(wanted.style, files)
    if isinstance(source, ArrayFile):
        if wanted.group:
            raise ValueError(f"--group is for tables, and {file} has arrays.")
        wanted = wanted if name is None else replace(wanted, y=name)
        data = _of_arrays(source, wanted, elsewhere)
    elif wanted.group:
        if wanted.rows is not None:
            raise ValueError("--group goes with neither --rows nor --columns.")
        data = in_groups(source, wanted, elsewhere)
    else:
        wanted = wanted if name is None else replace(wanted, y=name)
        data = (in_rows if wanted.rows else in_columns)(source, wanted, elsewhere)
    return data.checked(), source.notes + elsewhere.notes


def _of_arrays(source: ArrayFile, wanted: Wanted, elsewhere: Elsewhere):
    """Arrays (..., m), as `jaxlsq.fit` takes them; (m, ...) with ``--columns``."""
    beside = ("x", wanted.x, wanted.sigma, wanted.xsigma)
    name = source.only(beside) if wanted.y is None else wanted.y
    y, known = source.array(name), source.names()
    if not y.shape:
        raise ValueError(f"{source.name}: the array {name!r} is one number; expected (..., m).")
    y = y[...][None] if len(y.shape) == 1 else y
    axis = 0 if wanted.rows is False and y.shape[0] > 1 else -1
    said, found = [], {}
    given = {"x": wanted.x, "sigma": wanted.sigma, "xsigma": wanted.xsigma}
    if wanted.x is None:
        given["x"] = "x" if source.has("x") and name != "x" else "index"
    for key, text in given.items():
        if text is None:
            continue
        if source.has(text) and text:
            found[key] = np.asarray(source.array(text)[...])
            said.append(f"{key} is {text!r}")
        else:
            values = elsewhere.find(f"--{key}", text, known)
            found[key] = values.of(y.shape[axis])
            said.append(values.said)
    said.insert(0, f"along the {'first' if axis == 0 else 'last'} axis of {tuple(y.shape)}")
    name = f"{source.name}::{name}" if name else source.name
    sigma, xsigma = found.get("sigma"), found.get("xsigma")
    return Data(name, found["x"], y, sigma, None, tuple(said), axis, xsigma)
