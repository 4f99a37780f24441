"""Tables in text files: CSV, tabs, white space."""

import csv
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["DELIMITERS", "Style", "TextTable", "is_number", "is_text"]

DELIMITERS: dict[str, str | None] = {"tab": "\t", "comma": ",", "semicolon": ";", "space": None}
# Cells without a value, in lower case: NaN.
MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none"}


@dataclass(frozen=True)
class Style:
    """How a text file is written; what is None is found out.

    Attributes
    ----------
    delimiter : str, optional
        A key of `DELIMITERS`.
    decimal : str
        The decimal point, or comma.
    header : bool, optional
        Whether the first line has the columns' names.
    """

    delimiter: str | None = None
    decimal: str = "."
    header: bool | None = None


class TextTable:
    """A table in a text file; its rows are read once, in `read`.

    Attributes
    ----------
    name : str
        Of the file.
    head : list of str
        Cells of the first line; a comment line (#) in front with as many words is taken for it.
    named : bool
        Whether they are names; if not, they are data.
    notes : list of str
        What has to be said of the file.
    """

    def __init__(self, path: str, style: Style) -> None:
        self.name: str = path
        self.style: Style = style
        self.notes: list[str] = []
        self._delimiter, self._said = style.delimiter, ""
        self._line, self._ended = 0, True
        rows = self._rows(path)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{path} has no data in it.")
        self.head: list[str] = [cell.strip() for cell in first[1]]
        texts = not all(map(self.is_number, self.head))
        self.named: bool = texts if style.header is None else style.header
        if not self.named:
            rows = chain([first], rows)
            said = self._split(self._said)
            if style.header is None and len(said) == len(self.head):
                self.head, self.named = said, True
        second = next(rows, None)
        self._second = second and second[1]
        self._rest = chain([second], rows) if second else rows
        self._leave_out(self._unnamed())

    @property
    def names(self) -> list[str]:
        """Of the columns: their numbers from 0, where they have none."""
        return self.head if self.named else [str(i) for i in range(len(self.head))]

    def is_number(self, cell: str) -> bool:
        """Whether a cell is a number of this file."""
        return is_number(cell, self.style.decimal)

    def places(self, first: int) -> NDArray[Any]:
        """The names from the first on, which are numbers, as an array."""
        numbers = range(first, len(self.head))
        return np.array(self._values(1, self.head[first:], numbers))

    def begins_with_text(self) -> bool:
        """Whether the first cell of the first row below the names is text."""
        return bool(self._second) and not self.is_number(self._second[0])

    def read(
        self, numbers: Sequence[int], texts: Sequence[int] = ()
    ) -> tuple[NDArray[Any], list[list[str]]]:
        """Columns of numbers as an array (rows, columns), and columns of text as lists.

        Raises
        ------
        ValueError
            For a line of another length, and for a cell that is no number.
        """
        width, flat, lists = len(self.head), array("d"), [[] for _ in texts]
        every = list(numbers) == list(range(width))
        for line, cells in self._rest:
            if len(cells) != width:
                raise ValueError(self._wrong_width(line, cells, width))
            flat.extend(
                self._values(line, cells if every else [cells[i] for i in numbers], numbers)
            )
            for column, i in zip(lists, texts, strict=True):
                column.append(cells[i].strip())
        if not self._ended:
            self.notes.append(
                f"{self.name}: the last line has no line end, as in a file that was cut off; its "
                "last number may be incomplete."
            )
        return np.array(flat).reshape(-1, len(numbers)), lists

    def _unnamed(self):
        """Columns that may be there for a delimiter at the ends of the lines only."""
        width = len(self.head)
        if self.named:
            return [i for i in range(width) if not self.head[i]]
        return [i for i in range(width) if not any(self.head[i:])]

    def _leave_out(self, columns: list[int]):
        """Those of some columns that have no value either."""
        if not columns:
            return
        width, rows = len(self.head), list(self._rest)
        whole = [cells for _, cells in rows if len(cells) == width]
        empty = {i for i in columns if not any(cells[i].strip() for cells in whole)}
        if len(empty) == width:
            empty = set()

        def kept(cells: list[str]) -> list[str]:
            return [cell for i, cell in enumerate(cells) if i not in empty]

        self.head = kept(self.head)
        self._rest = ((n, kept(cells) if len(cells) == width else cells) for n, cells in rows)
        if empty:
            what = "a column" if len(empty) == 1 else f"{len(empty)} columns"
            self.notes.append(f"{self.name}: {what} without name and values left out.")

    def _values(self, line: int, cells: list[str], numbers: Sequence[int]):
        if self.style.decimal != ".":
            cells = [cell.replace(self.style.decimal, ".") for cell in cells]
        try:
            if "_" not in "".join(cells):  # which Python allows in numbers
                return list(map(float, cells))
        except ValueError:  # an empty cell, or one that is no number
            pass
        return [self._value(line, cell, i) for cell, i in zip(cells, numbers, strict=True)]

    def _value(self, line: int, cell: str, i: int):
        if not is_number(cell):
            hint = ""
            if self.style.decimal == "." and is_number(cell, ","):
                hint = " With a decimal comma pass --decimal ,"
            elif self.named:
                hint = " Choose the columns with numbers by --x and --y."
            raise ValueError(
                f"{self.name}, line {line}, column {self.names[i]!r}: {cell.strip()[:40]!r} "
                f"is no number.{hint}"
            )
        cell = cell.strip()
        return np.nan if cell.lower() in MISSING else float(cell)

    def _wrong_width(self, line: int, cells: list[str], width: int):
        cut = "" if self._ended else " It is the last line: is the file cut off?"
        return (
            f"{self.name}, line {line}: {len(cells)} cells, where the first line has {width}.{cut}"
        )

    # --- lines ------------------------------------------------------------------

    def _rows(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """Numbers of lines, and their cells."""
        try:
            if path == "-":
                yield from self._cells(sys.stdin)
                return
            with open(path, encoding="utf-8-sig", newline="") as file:
                yield from self._cells(file)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is no text in UTF-8 ({error.reason}, after line {self._line}); save it as "
                "CSV in UTF-8."
            ) from None
        except csv.Error as error:
            raise ValueError(f"{path}, line {self._line}: {error}.") from None

    def _cells(self, file: TextIO) -> Iterator[tuple[int, list[str]]]:
        lines = self._lines(file)
        first = next(lines, None)
        if first is None:
            return
        if self._delimiter is None:
            marks = ("tab", "semicolon", "comma")
            found = (name for name in marks if str(DELIMITERS[name]) in first)
            self._delimiter = next(found, "space")
        lines = chain([first], lines)
        delimiter = DELIMITERS[self._delimiter]
        if delimiter is None:
            rows = (line.split() for line in lines)
        else:
            rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        yield from ((self._line, cells) for cells in rows)

    def _lines(self, file: TextIO) -> Iterator[str]:
        """Lines that are neither empty nor a comment."""
        for line in file:
            self._line += 1
            self._ended = line.endswith(("\n", "\r"))
            if line.startswith("#"):
                self._said = line[1:]
            elif line.strip():
                yield line

    def _split(self, line: str) -> list[str]:
        """The words of a comment, as cells."""
        delimiter: Any = DELIMITERS[self._delimiter or "space"]
        return [word.strip(" ,") for word in line.strip().split(delimiter)] if line else []


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell is a number, or has no value."""
    cell = cell.strip().replace(decimal, ".")
    if cell.lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def is_text(path: str) -> bool:
    """Whether a file's name is that of a text."""
    return path == "-" or Path(path).suffix.lower() in (".csv", ".tsv", ".txt", ".dat", ".asc")
