"""Values that are not in the file of the data: a range, an index, a number, another file."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxlsq.cli.arrays import SUFFIXES, ArrayFile
from jaxlsq.cli.frames import FrameTable
from jaxlsq.cli.text import Style, TextTable, is_text

__all__ = ["Elsewhere", "column", "in_name", "opened"]

FRAMES = (".parquet", ".pq")
_RANGE = re.compile(r"([^:]+):([^:]+):(\d+)")


class Values(NamedTuple):
    """Values, as a function of the number of points, and what they are in words."""

    of: Callable[[int], Any]
    said: str


def in_name(path: str) -> tuple[str, str | None]:
    """A file, and what is asked for in it: of ``file.h5::/group/y``."""
    file, separator, name = path.partition("::")
    return file, name if separator else None


def opened(path: str, style: Style, files: ExitStack) -> ArrayFile | TextTable | FrameTable:
    """A file of data.

    Raises
    ------
    ValueError
        For a kind of file that is not known.
    OSError, ImportError
        For one that can't be read.
    """
    suffix = Path(path).suffix.lower()
    if suffix in SUFFIXES:
        return ArrayFile(path, files)
    if suffix in FRAMES:
        return FrameTable(path)
    if is_text(path):
        return TextTable(path, style)
    known = " ".join((".csv", ".tsv", ".txt", ".dat", ".parquet", *SUFFIXES))
    raise ValueError(f"{path}: expected a file whose name ends in one of {known}; got {suffix!r}.")


class Elsewhere:
    """Finds values that an option asks for.

    Parameters
    ----------
    style : Style
        Of text files.
    files : ExitStack
        Which closes what is opened.
    """

    def __init__(self, style: Style, files: ExitStack) -> None:
        self.style: Style = style
        self.files: ExitStack = files
        self.notes: list[str] = []

    def find(self, option: str, text: str, known: list[str]) -> Values:
        """Values for `--x`, `--sigma` or `--xsigma`.

        Parameters
        ----------
        option : str
        text : str
            'index', ``start:stop:num``, a file, or for a sigma a number.
        known : list of str
            Names that could have been meant, for messages.

        Raises
        ------
        ValueError, OSError
        """
        if option != "--x":
            try:
                number = float(text)
            except ValueError:
                pass
            else:
                return Values(lambda m: number, f"{option.strip('-')} is {text}")
        elif text == "index":
            return Values(lambda m: np.arange(float(m)), "x is the index, from 0")
        elif (match := _RANGE.fullmatch(text)) and not Path(text).exists():
            places = _range(text, *match.groups())
            said = f"x is {places.size:,} points from {places[0]:g} to {places[-1]:g}"
            return Values(lambda m: places, said)
        file, name = in_name(text)
        if Path(file).exists():
            array = self._array(option, file, name)
            return Values(lambda m: array, f"{option.strip('-')} is in {text}")
        near = get_close_matches(text, known, 1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Names: {', '.join(known[:10]) or '-'}."
        others = "a number" if option != "--x" else "'index', START:STOP:NUM"
        raise ValueError(
            f"{option} {text}: neither a name in the data, nor {others}, nor a file.{hint}"
        )

    def _array(self, option: str, file: str, name: str | None):
        """All of a file, or what has a name in it."""
        source = opened(file, self.style, self.files)
        if isinstance(source, ArrayFile):
            return source.array(source.only(()) if name is None else name)
        which = list(range(len(source.names)))
        if name is not None:
            place = column(source.names, name, option)
            if place is None:
                has = source.names[:20]
                raise ValueError(f"{option}: {file} has no column {name!r}; it has {has}.")
            which = [place]
        values, _ = source.read(which)
        self.notes += source.notes
        return values.ravel() if 1 in values.shape else values


def _range(text: str, start: str, stop: str, count: str):
    try:
        first, last = float(start), float(stop)
    except ValueError:
        first = last = np.nan
    if not np.isfinite([first, last]).all() or int(count) < 1:
        raise ValueError(f"--x {text}: expected START:STOP:NUM, for example 0:4:50 for 50 points.")
    return np.linspace(first, last, int(count))


def column(names: list[str], text: str, option: str = "--x") -> int | None:
    """The place of a column, by its name or its number from 0; None where there is none.

    Raises
    ------
    ValueError
        For a name that several columns have.
    """
    count = names.count(text)
    if count > 1:
        raise ValueError(f"{option} {text}: {count} columns have this name; give one's number.")
    if count:
        return names.index(text)
    return int(text) if text.isdecimal() and int(text) < len(names) else None
