"""A batch of problems: groups of one shape each, and how they are solved together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch import neighbours
from jaxlsq.batch.apart import not_begun, solved_apart, unless_asked
from jaxlsq.batch.exact_first import has_errors_in_x, together_from_exact
from jaxlsq.batch.group import Group
from jaxlsq.batch.interruption import Interruption
from jaxlsq.batch.kept import Keeper
from jaxlsq.batch.on_host import on_host
from jaxlsq.batch.pointwise import check_pointwise
from jaxlsq.batch.progress import reporter
from jaxlsq.batch.refits import Refits
from jaxlsq.batch.separable import solved_reduced
from jaxlsq.batch.stream import Control
from jaxlsq.batch.together import solved_together
from jaxlsq.lowering.engine import XLA
from jaxlsq.numerics.loss import POISSON, Loss, Robust
from jaxlsq.numerics.state import Options
from jaxlsq.problem.arrangement import Arrangement
from jaxlsq.problem.captions import Captions
from jaxlsq.problem.fit_data import FitData
from jaxlsq.problem.labels import Labels
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.mistakes import brief_errors
from jaxlsq.problem.multistart import NEIGHBOURS, MultiStart
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.settings import Settings
from jaxlsq.problem.sharing import Sharing
from jaxlsq.problem.starts import Start
from jaxlsq.problem.tolerances import batch_options
from jaxlsq.problem.types import Batch
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import FitResult
from jaxlsq.schedule.devices import checked_devices
from jaxlsq.status import Status
from jaxlsq.tracing.forked import check_not_forked
from jaxlsq.tracing.untraceable import Untraceable

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem(Refits):
    """Everything that a `FitResult` needs to be computed, or computed again.

    Attributes
    ----------
    groups : tuple of (index, Group)
        Problems of one shape, and their places in the batch, flat.
    batch : tuple of int
    start : Start
    layout : Layout
        Of the parameters as the caller sees them.
    names : tuple of str
        Of the parameters.
    read_start : callable
        ``read_start(p0, batch) -> Start``.
    settings : Settings
    absolute_sigma : bool
    lengths : (total,) int array, optional
        Of the data sets, where they differ.
    model : callable, optional
        ``model(params, x)``, for predictions.
    places : Callable
        ``places(lane, shared) -> x``, the data's own.
    limits : Limits, optional
    labels : Labels, optional
        Of the batch's axes.
    linear : tuple of int
        Places of the parameters that are eliminated.
    sharing : Sharing, optional
        Of parameters that data sets share.
    goes_on : bool
        Whether its starts are where its fits ended before.
    captions : Captions
        Of the axes of plots.
    arrangement : Arrangement, optional
        Of what a refit is given; None of some fits of a batch.
    watched : tuple, optional
        What a result reads and was not copied, each with a method `check`; None before anything
        was.
    """

    groups: tuple[tuple[NDArray[Any], Group], ...]
    batch: Batch
    start: Start
    layout: Layout
    names: tuple[str, ...]
    read_start: Callable[..., Any]
    settings: Settings
    absolute_sigma: bool = False
    lengths: NDArray[Any] | None = None
    model: Callable[..., Any] | None = None
    places: Callable[..., Any] | None = None
    limits: Limits | None = None
    labels: Labels | None = None
    linear: tuple[int, ...] = ()
    sharing: Sharing | None = None
    goes_on: bool = False
    captions: Captions = field(default_factory=Captions)
    arrangement: Arrangement | None = None
    watched: tuple[Any, ...] | None = None

    @classmethod
    def of_fit(cls, data: FitData, settings: Settings) -> Self:
        """The problem of a model and `FitData`.

        Raises
        ------
        ValueError
            For errors in x with a model that is not one of single points.
        """
        groups = tuple((index, Group.of(pieces, task)) for index, pieces, task in data.tasks())
        for _, group in groups:
            check_pointwise(group, data.start)
        return cls(
            groups=groups,
            batch=data.batch,
            start=data.start,
            layout=data.start.layout,
            names=data.names,
            read_start=data.start_again,
            settings=settings,
            absolute_sigma=data.absolute_sigma,
            lengths=data.lengths,
            model=data.predict,
            places=data.first.x,
            limits=data.limits,
            labels=data.labels,
            linear=data.linear,
            sharing=data.sharing,
            captions=data.captions,
            arrangement=data.arrangement,
        )

    @property
    def loss(self) -> Loss | None:
        """Of `jaxlsq.numerics.loss`, None for squares."""
        return self.groups[0][1].task.loss

    @property
    def of_counts(self) -> bool:
        """Whether its loss is the deviance of counts."""
        return self.loss is POISSON

    @property
    def is_robust(self) -> bool:
        """Whether its loss makes less of outliers."""
        return isinstance(self.loss, Robust)

    @property
    def is_narrow(self) -> bool:
        """Whether some of it is computed in float32, before any polish."""
        return not all(group.wide for _, group in self.groups)

    @property
    def total(self) -> int:
        """Number of problems."""
        return math.prod(self.batch)

    def solve(self) -> FitResult:
        """Fit all.

        Returns
        -------
        FitResult

        Raises
        ------
        Interrupted
            On Ctrl-C, with what is done.
        """
        with brief_errors:
            return self._solve_anyhow()

    def _solve_anyhow(self):
        if self.sharing is not None:
            if has_errors_in_x(self.groups[0][1]) and not self.goes_on:
                return together_from_exact(solved_together, self)
            return solved_together(self)
        if isinstance(self.settings.starts, str) and self.settings.starts == NEIGHBOURS:
            return neighbours.solved(self)
        if self.linear:
            return solved_reduced(self)
        try:
            return self._solve()
        except Untraceable as error:
            problem, model = on_host(self, error)
            with model.errors():
                result = problem._solve()
                if model.of_parameters and np.all(result.status == Status.NONFINITE_START):
                    raise model.of_parameters from None
            return replace(result, engine=f"Python, and {XLA}: the model{error.reason}")

    def _solve(self):
        n, settings = self.layout.n, self.settings
        devices = checked_devices(settings.devices)
        spread = MultiStart.of(settings.starts, n, self.batch)
        kept = self.kept()
        with Interruption() as interrupts:
            parts, engines, before = [], [], 0
            with reporter(settings.progress, self.total) as report:
                for (index, group), (_, given) in zip(kept.groups, self.groups, strict=True):
                    group = replace(group, task=given.task)  # one that was traced before
                    watched = report and report.after(before)
                    control = Control(interrupts, watched, settings.workers, devices)
                    what = self, index, group, spread, control
                    part = unless_asked(interrupts, solved_apart, *what)
                    part = part or (not_begun(len(index), n, group.dtype), "")
                    parts.append((index, part[0]))
                    engines.append(part[1])
                    before += len(index)
            result = kept.result_of(parts, "; ".join(filter(None, dict.fromkeys(engines))))
            interrupts.settle()
            if interrupts.asked:
                raise Interrupted(result)
        return result

    def options(self, dtype: np.dtype[Any], polishing: bool = False) -> Options:
        """Tolerances and limits in a type."""
        s = self.settings
        names = ("x_scale", "max_nfev") if polishing else ("ftol", "xtol", "x_scale", "max_nfev")
        values = dict.fromkeys(("ftol", "xtol")) | {name: getattr(s, name) for name in names}
        # A float32 solution that is exact in float64 too ends at its first Jacobian.
        gtol = max(s.gtol or 0.0, 1e-8) if polishing else s.gtol
        return batch_options(self.layout.n, dtype, gtol=gtol, loss=self.loss, **values)

    def kept(self) -> Self:
        """The same problem, which later changes of the caller's data and functions don't reach."""
        if self.watched is not None:
            return self
        keeper = Keeper()
        groups = tuple((index, group.kept(keeper)) for index, group in self.groups)
        return replace(
            self,
            groups=groups,
            model=keeper.function(self.model),
            start=replace(self.start, guess=keeper.function(self.start.guess)),
            limits=self.limits and self.limits.kept(keeper),
            settings=self.settings.kept(keeper),
            watched=tuple(keeper.watched),
        )

    def check(self) -> None:
        """Raise RuntimeError where what was fitted has changed, or in a process that can't fit."""
        check_not_forked()
        for watched in self.watched or ():
            watched.check()

    def result_of(
        self, parts: Sequence[tuple[NDArray[Any], dict[str, NDArray[Any]]]], engine: str
    ) -> FitResult:
        """The `FitResult` of the arrays of all groups."""
        arrays = dict(parts[0][1]) if len(parts) == 1 else {}
        for index, part in parts if len(parts) > 1 else ():
            for name, values in part.items():
                if name not in arrays:
                    widest = np.result_type(*(p[name].dtype for _, p in parts))
                    arrays[name] = np.empty((self.total, *values.shape[1:]), widest)
                arrays[name][index] = values
        shaped: dict[str, Any] = {
            k: v.reshape((*self.batch, *v.shape[1:])) for k, v in arrays.items()
        }
        everywhere = (*self.batch, self.layout.n)
        fixed = np.zeros(self.layout.n, bool) if self.limits is None else self.limits.fixed
        fixed = np.broadcast_to(fixed, (self.total, self.layout.n)) if fixed.ndim == 1 else fixed
        shaped["fixed"] = fixed.reshape(everywhere)
        return FitResult(
            **shaped,
            layout=self.layout,
            names=self.names,
            problem=self,
            of_counts=self.of_counts,
            absolute_sigma=self.absolute_sigma,
            engine=engine,
            labels=self.labels,
        )

    def take(self, index: NDArray[Any], batch: Batch) -> Self:
        """The problem of some of the fits, with a batch shape of their own."""
        groups = []
        for members, group in self.groups:
            place = np.full(self.total, -1)
            place[members] = np.arange(len(members))
            chosen = np.flatnonzero(place[index] >= 0)
            groups.append((chosen, group.take(place[index[chosen]])))
        groups = [pair for pair in groups if pair[0].size] or groups[:1]
        array = self.start.array
        if array is not None and array.ndim == 2:
            array = array[index]
        start = replace(self.start, array=array)
        lengths = None if self.lengths is None else self.lengths[index]
        settings, starts = self.settings, self.settings.starts
        if np.ndim(starts) > 2:
            each = np.asarray(starts).reshape(self.total, *np.shape(starts)[-2:])[index]
            settings = replace(settings, starts=each.reshape(*batch, *each.shape[-2:]))
        return replace(
            self,
            groups=tuple(groups),
            batch=tuple(batch),
            start=start,
            lengths=lengths,
            settings=settings,
            limits=self.limits and self.limits.take(index),
            labels=None,
            sharing=self.sharing and self.sharing.take(index),
            arrangement=None,
        )
