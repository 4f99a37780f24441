"""Fits of a batch portion by portion, each of which is written, or reduced, when it ends."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.identity import checksum, identity
from jaxlsq.batch.interruption import Interruption
from jaxlsq.batch.progress import reporter
from jaxlsq.batch.run import Problem
from jaxlsq.problem.sources import Source
from jaxlsq.results import storage
from jaxlsq.results.grid import Box, Grid
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.results.stored import StoredResult
from jaxlsq.results.stores import Store, check_target, open_store

__all__ = ["check_out", "solved_in_portions"]

# A portion: so many fits, or so many bytes of data, at most.
MOST_FITS = 1 << 16
MOST_BYTES = 1 << 27
VERSION = 2


def check_out(out: Any) -> Any:
    """A path, or an object with `add`; raise TypeError or ValueError for anything else."""
    if callable(getattr(out, "add", None)):
        return out
    if not isinstance(out, (str, bytes)) and not hasattr(out, "__fspath__"):
        raise TypeError(
            "out must be the path of a folder or of a .zarr, or have a method add(result); got "
            f"{type(out).__name__}."
        )
    return check_target(out)


def solved_in_portions(problem: Problem, out: Any) -> Any:
    """Fit all, a portion at a time; what is in memory are those that are worked on.

    Parameters
    ----------
    problem : Problem
    out : path, or object with a method ``add(result)``

    Returns
    -------
    StoredResult, or `out` itself

    Raises
    ------
    ValueError
        If a path holds another run, or one whose data have changed since; for starts from
        neighbours, which may be in another portion.
    Interrupted
        On Ctrl-C: the portions that have ended are written.
    """
    if not problem.batch or not problem.total:
        raise ValueError(f"out is for a batch of fits; ydata has the batch shape {problem.batch}.")
    if problem.sharing is not None:
        raise ValueError(
            "out is written in portions, each fitted for itself, and shared ties all data sets "
            "together. Leave out away, and save the result."
        )
    if isinstance(problem.settings.starts, str):
        raise ValueError(
            f"starts={problem.settings.starts!r} needs the whole image, and out= cuts it into "
            "portions; leave out= and save the result, or give a number of starts."
        )
    out = check_out(out)
    grid = Grid.of(problem.batch, _most_fits(problem))
    if hasattr(out, "add"):
        _each(problem, grid, {}, lambda box, result, _: out.add(result))
        return out
    store = _store(problem, grid, out)

    def write(box, result, found):
        try:
            store.write(box, _arrays(result), found)
        except OSError as error:  # a full disk, say
            error.add_note(
                f"jaxlsq was writing to {str(out)!r}. All portions before are complete there: the "
                "same call goes on after them."
            )
            raise

    stored = StoredResult(str(out), store)
    try:
        _each(problem, grid, store.done(), write)
    except KeyboardInterrupt:  # in a portion, or between two of them
        raise Interrupted(stored) from None
    return stored


def _most_fits(problem):
    bytes_each = max(group.bytes_each for _, group in problem.groups)
    return max(1, min(MOST_FITS, MOST_BYTES // max(bytes_each, 1)))


def _store(problem: Problem, grid: Grid, path: Any) -> Store:
    """The store of a run, which is begun or gone on with."""
    run = identity(problem)
    description = {
        "version": VERSION,
        "batch": list(grid.batch),
        "block": list(grid.block),
        "run": run,
    } | storage.described(problem)
    store = open_store(path, description, problem.labels)
    there = store.description
    if there.get("version") != VERSION or not isinstance(there.get("run"), dict):
        raise ValueError(f"out={str(path)!r} holds results of another version; give another one.")
    differ = [name for name in run if there["run"].get(name, "") != run[name]]
    differ += [] if there["batch"] == description["batch"] else ["the shape of the batch"]
    if differ or there["block"] != description["block"]:
        raise ValueError(
            f"out={str(path)!r} holds another run: {', '.join(differ) or 'the size of its blocks'} "
            "differ. Give another folder, or remove this one."
        )
    return store


def _each(problem, grid, done, write):
    """Fit every portion that is not done, and check that the data of the others are the same."""
    with reporter(problem.settings.progress, problem.total) as report:
        for box in grid:
            part, found = _loaded(problem, box)
            if box.number in done:
                if done[box.number] != found:
                    raise ValueError(
                        f"the data of fits {box.first} to {box.last - 1} are not those that out's "
                        "results are of; give another folder, or remove this one."
                    )
            else:
                settings = replace(
                    part.settings, progress=report.after(box.first) if report else False
                )
                write(box, replace(part, settings=settings).solve(), found)
            if report:
                report(box.last)


def _loaded(problem: Problem, box: Box) -> tuple[Problem, int]:
    """The problem of a portion, with its data in memory, and their checksum."""
    index = np.arange(box.first, box.last)
    part = problem.take(index, box.shape)
    groups, found = [], 0
    with Interruption() as interrupts, interrupts.at_once():
        for members, group in part.groups:
            block = group.block(0, group.total, group.total)
            found = checksum(*(block[key] for key in sorted(block)), start=found)
            lanes = {k: Source(v, (group.total,), v.dtype) for k, v in block.items()}
            groups.append((members, replace(group, lanes=lanes)))
    labels = problem.labels and problem.labels.take(index.reshape(box.shape))
    # Nobody else has these arrays: they need not be watched.
    part = replace(part, groups=tuple(groups), labels=labels, watched=())
    return part, found | 1 << 32  # never zero, which is nothing


def _arrays(result: FitResult) -> dict[str, NDArray[Any]]:
    """What is written of a portion."""
    arrays = {name: getattr(result, name) for name in storage.ARRAYS}
    stderr = np.sqrt(np.diagonal(result.cov, axis1=-2, axis2=-1))
    engine = np.array(result.engine)
    return arrays | {"inverse": result.inverse_gram, "stderr": stderr, "engine": engine}
