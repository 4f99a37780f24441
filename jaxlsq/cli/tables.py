"""Tables as data sets: one a column, one a row, or one below the other with a label."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from jaxlsq.cli.data import Data, Wanted, labelled
from jaxlsq.cli.frames import FrameTable
from jaxlsq.cli.places import Elsewhere, column
from jaxlsq.cli.text import TextTable

__all__ = ["in_columns", "in_groups", "in_rows"]

Table = TextTable | FrameTable
# Options for standard deviations, and what they are called in `Data`.
ERRORS = ("sigma", "xsigma")


def in_columns(table: Table, wanted: Wanted, elsewhere: Elsewhere) -> Data:
    """Every column is a data set but those that are x, sigma and xsigma."""
    names = table.names
    at = {"x": _place(table, "--x", wanted.x)} | _errors(table, wanted)
    if wanted.x is None:
        if len(names) == 1:
            raise ValueError(
                f"{table.name} has one column; where is x? --x index, START:STOP:NUM or a file."
            )
        at["x"] = next((i for i in range(len(names)) if i not in at.values()), 0)
    others = _others(wanted, at, names, elsewhere)
    signals = chosen(names, wanted.y, [i for i in at.values() if i is not None])
    used = sorted({*signals, *(i for i in at.values() if i is not None)})
    matrix, _ = table.read(used)
    place = {name: np.searchsorted(used, i) for name, i in at.items() if i is not None}
    found = {name: matrix[:, i].copy() for name, i in place.items()}
    y = np.ascontiguousarray(matrix[:, np.searchsorted(used, signals)].T)
    found |= {name: values.of(y.shape[1]) for name, values in others.items()}
    said = ["one a column", *(_said(name, names[i]) for name, i in at.items() if i is not None)]
    said += [values.said for values in others.values()]
    if not table.named:
        said.append("no names in the first line")
    labels = labelled({"fit": [names[i] for i in signals]})
    errors: dict[str, Any] = {name: found.get(name) for name in ERRORS}
    return Data(table.name, found["x"], y, labels=labels, said=tuple(said), **errors)


def in_rows(table: Table, wanted: Wanted, elsewhere: Elsewhere) -> Data:
    """Every row is a data set, the first one x; a first column of text has their labels."""
    if wanted.y is not None:
        raise ValueError("--y chooses columns, and with --rows every row is a data set: leave it.")
    names = table.names
    numeric = all(map(table.is_number, names[1:]))
    first = table.named and not table.is_number(names[0]) and numeric
    has_labels = table.begins_with_text() or first or (not table.named and table.head[0] == "")
    others = _others(wanted, {}, names, elsewhere)
    matrix, texts = table.read(range(has_labels, len(names)), [0] if has_labels else [])
    if "x" in others:
        x, said = others["x"].of(matrix.shape[1]), others["x"].said
    elif not table.named:
        x, matrix, said = matrix[0], matrix[1:], "x is the first one"
        texts = [text[1:] for text in texts]
    elif numeric:
        x, said = table.places(int(has_labels)), "x is in the first line"
    else:
        raise ValueError(f"{table.name}: the first line has names that are no numbers; give --x.")
    labels = labelled({(names[0] if first else "") or "fit": texts[0]}) if has_labels else None
    m = matrix.shape[1]
    given = {name: values.of(m) for name, values in others.items()}
    errors: dict[str, Any] = {name: given.get(name) for name in ERRORS}
    more = [values.said for name, values in others.items() if name != "x"]
    return Data(table.name, x, matrix, labels=labels, said=("one a row", said, *more), **errors)


def in_groups(table: Table, wanted: Wanted, elsewhere: Elsewhere) -> Data:
    """Rows with the same label are a data set; they may be of different lengths."""
    names = table.names
    groups = [_known(table, "--group", name) for name in wanted.group or ()]
    at = _errors(table, wanted)
    beside = [name for name in ERRORS if at[name] is not None]
    free = [i for i in range(len(names)) if i not in (*groups, *at.values())]
    of_x = free[0] if wanted.x is None and free else _known(table, "--x", wanted.x)
    at["x"] = of_x
    signals = chosen(names, wanted.y, [*groups, *(i for i in at.values() if i is not None)])
    if len(signals) != 1:
        rest = [names[i] for i in signals[:10]]
        raise ValueError(f"--group needs one column of data: --y NAME, one of {rest}.")
    numbers_given = _others(wanted, {"x": 0, **at}, names, elsewhere)
    numbers = [of_x, signals[0], *(i for i in map(at.get, beside) if i is not None)]
    matrix, texts = table.read(numbers, groups)
    codes: dict[tuple[str, ...], int] = {}
    which = np.array([codes.setdefault(key, len(codes)) for key in zip(*texts, strict=True)])
    ends = np.cumsum(np.bincount(which))[:-1]
    columns = [np.split(v, ends) for v in matrix[np.argsort(which, kind="stable")].T]
    if len(set(map(len, columns[0]))) == 1:
        columns = [np.stack(parts) for parts in columns]
    x, y, *rest = columns
    errors: dict[str, Any] = dict.fromkeys(ERRORS) | dict(zip(beside, rest, strict=True))
    for name, values in numbers_given.items():
        value = values.of(0)
        if not isinstance(value, float):
            raise ValueError(f"--{name} of groups must be a column or a number.")
        each = isinstance(y, list)
        errors[name] = [np.full(len(part), value) for part in y] if each else value
    labels = labelled({names[i]: [key[k] for key in codes] for k, i in enumerate(groups)})
    said = ["below each other", _said("x", names[at["x"]]), _said("y", names[signals[0]])]
    return Data(table.name, x, y, labels=labels, said=tuple(said), **errors)


def chosen(names: list[str], patterns: str | None, besides: list[int]) -> list[int]:
    """Places of the columns that are fitted.

    Parameters
    ----------
    names : list of str
    patterns : str, optional
        Names, patterns (``run*``) or numbers of columns, with commas between them; all columns if
        not given.
    besides : list of int
        Columns that are something else.

    Raises
    ------
    ValueError
        For a pattern that no column has.
    """
    if patterns is None:
        others = [i for i in range(len(names)) if i not in besides]
        if not others:
            raise ValueError("there is no column of data beside those of x, sigma and labels.")
        return others
    found: dict[int, None] = {}
    for pattern in [patterns] if patterns in names else patterns.split(","):
        pattern = pattern.strip()
        places = [i for i, name in enumerate(names) if name == pattern]
        places = places or [i for i, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not places and (place := column(names, pattern)) is not None:
            places = [place]
        places = [i for i in places if i not in besides]
        if not places:
            raise ValueError(f"--y {pattern}: no such column; the names are {names[:20]}.")
        found |= dict.fromkeys(places)
    return list(found)


def _errors(table: Table, wanted: Wanted):
    """The columns of standard deviations, None for those that are no column."""
    return {name: _place(table, f"--{name}", getattr(wanted, name)) for name in ERRORS}


def _place(table: Table, option: str, text: str | None):
    """The column that an option names, None where it names none."""
    return None if text is None else column(table.names, text, option)


def _known(table: Table, option: str, text: str | None) -> int:
    place = _place(table, option, text)
    if place is None:
        raise ValueError(f"{option} {text}: no such column; the names are {table.names[:20]}.")
    return place


def _others(
    wanted: Wanted, at: Mapping[str, int | None], names: list[str], elsewhere: Elsewhere
) -> dict[str, Any]:
    """What is not in the table."""
    given = {"x": wanted.x} | {name: getattr(wanted, name) for name in ERRORS}
    return {
        name: elsewhere.find(f"--{name}", text, names)
        for name, text in given.items()
        if text is not None and at.get(name) is None
    }


def _said(name: str, header: str):
    return f"{name} is the column {header!r}"
