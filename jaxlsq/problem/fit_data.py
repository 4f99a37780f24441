"""What `fit` is given, checked and read: data, starts, limits, model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.loss import POISSON, Loss
from jaxlsq.problem.arrangement import Arrangement
from jaxlsq.problem.axis import axis_of
from jaxlsq.problem.captions import Captions
from jaxlsq.problem.checks import check_callable, check_known, check_method
from jaxlsq.problem.containers import check_one_array
from jaxlsq.problem.contents import check_counts
from jaxlsq.problem.data import Pieces
from jaxlsq.problem.functions import Predict
from jaxlsq.problem.given import parts_of, start_again, trial_values, ydata_of
from jaxlsq.problem.guesses import PositiveGuess, guessed_start
from jaxlsq.problem.labels import Labels
from jaxlsq.problem.limits import Limits
from jaxlsq.problem.losses import check_weights, loss_of
from jaxlsq.problem.mistakes import brief_errors
from jaxlsq.problem.model_values import begin_of, bounds_of, in_models_order
from jaxlsq.problem.names import check_count, check_order, names_of
from jaxlsq.problem.policy import Policy
from jaxlsq.problem.rows import check_lists
from jaxlsq.problem.separable import check_separable, linear_places
from jaxlsq.problem.sharing import Sharing
from jaxlsq.problem.shifted import ORTHOGONAL
from jaxlsq.problem.sources import check_open
from jaxlsq.problem.starts import Start, as_start
from jaxlsq.problem.tables import as_lists, check_groups, keys_of
from jaxlsq.problem.task import Task
from jaxlsq.problem.types import Batch, BoundsLike, PyTree
from jaxlsq.problem.xsigma import check_x_errors
from jaxlsq.tracing.concrete import check_concrete

__all__ = ["FitArguments", "FitData", "read"]

NAN_POLICIES = ("propagate", "omit", "raise")
# Arguments that broadcast to ydata.
OF_POINTS = ("sigma", "mask", "f_scale")


@dataclass(frozen=True)
class FitArguments:
    """What the caller said of data and model; see `jaxlsq.fit`."""

    model: Callable[..., Any]
    xdata: PyTree
    ydata: Any
    p0: Any
    sigma: Any
    absolute_sigma: bool
    mask: Any
    nan_policy: str
    bounds: BoundsLike
    fixed: Any
    expand: Callable[..., Any] | None
    loss: Any  # as given, and of `checked` arguments a `Loss` or None
    f_scale: Any
    jac: str | Callable[..., Any]
    axis: Any = -1
    linear: Any = None
    shared: Any = None
    xsigma: Any = None
    x_errors: str = ORTHOGONAL

    def checked(self) -> Self:
        """The same without what has no meaning, and with the `loss` that is meant."""
        start = () if callable(self.p0) else self.p0
        points = self.sigma, self.mask, self.xsigma
        check_concrete("fit", (self.xdata, self.ydata, start, *points))
        loss = loss_of(self.loss, counts=True)
        check_known("nan_policy", self.nan_policy, NAN_POLICIES)
        check_callable("model", self.model)
        check_method("jac", self.jac)
        check_weights(loss, self.sigma, self.absolute_sigma, self.f_scale)
        check_x_errors(self.xsigma, self.x_errors, loss, self.jac, self.linear)
        check_open(self.ydata, "ydata")
        check_one_array(self.ydata, "ydata")
        return self if loss is self.loss else replace(self, loss=loss)

    def listed(self) -> Self:
        """The same with lists of arrays for groups of a table, and for columns of arrays."""
        names = ("xdata", "ydata", "sigma", "mask", "xsigma")
        for name in names:
            check_groups(getattr(self, name), self.ydata, name)
            check_lists(getattr(self, name), self.ydata, name)
        lists = {name: as_lists(getattr(self, name), name) for name in names}
        same = all(value is getattr(self, name) for name, value in lists.items())
        return self if same else replace(self, **lists)

    def arranged(self, by: Arrangement) -> Self:
        """The same with the points last, by position, and in the order of ydata's data sets."""
        points = {name: by.points(getattr(self, name), name) for name in OF_POINTS}
        return replace(
            self,
            **points,
            ydata=by.ydata(self.ydata),
            xdata=by.xdata(self.xdata),
            xsigma=by.xsigma(self.xsigma, self.xdata),
            p0=self.p0 if callable(self.p0) else by.parameters(self.p0, "p0"),
            bounds=by.bounds(self.bounds),
            fixed=by.parameters(self.fixed, "fixed"),
            shared=by.dims.of_parameters(self.shared, "shared"),
        )


@dataclass(frozen=True)
class FitData:
    """What is to be fitted.

    Attributes
    ----------
    parts : list of (index, Pieces)
        Data sets of one shape, and their places in the batch, flat.
    batch : tuple of int
    lengths : int array or None
        Of the data sets, where they differ.
    policy : Policy
    start : Start
    names : tuple of str
        Of the parameters.
    limits : Limits or None
    predict : Predict
    jac, loss
        As `jaxlsq.problem.task.Task` has them.
    x_errors : str or None
        What is made of the errors in x, as `fit` calls it; None where there are none.
    absolute_sigma : bool
    labels : Labels or None
        Of the batch's axes, where the data have some.
    linear : tuple of int
        Places of the parameters that are eliminated.
    sharing : Sharing or None
    captions : Captions
    arrangement : Arrangement
        Of what comes later.
    """

    parts: list[tuple[NDArray[Any], Pieces]]
    batch: Batch
    lengths: NDArray[Any] | None
    policy: Policy
    start: Start
    names: tuple[str, ...]
    limits: Limits | None
    predict: Predict
    jac: str | Callable[..., Any]
    loss: Loss | None
    x_errors: str | None
    absolute_sigma: bool
    labels: Labels | None
    linear: tuple[int, ...]
    sharing: Sharing | None
    captions: Captions
    arrangement: Arrangement

    @property
    def first(self) -> Pieces:
        """The first data sets of one shape, for what is asked of any."""
        return self.parts[0][1]

    def start_again(self, p0: Any, batch: Batch) -> Start:
        """The `Start` of a later fit."""
        return start_again(self.start.layout, self.first, self.policy, p0, batch)

    def tasks(self) -> Iterator[tuple[NDArray[Any], Pieces, Task]]:
        """``index, Pieces, Task`` of each part."""
        for index, pieces in self.parts:
            how = self.predict, self.policy, self.jac, self.start.layout, self.loss, self.x_errors
            yield index, pieces, pieces.task(*how)


def read(arguments: FitArguments) -> FitData:
    """Check what `fit` was given, and read it.

    Parameters
    ----------
    arguments : FitArguments

    Returns
    -------
    FitData

    Raises
    ------
    ValueError, TypeError
        For improper input; nothing has been compiled.
    """
    with brief_errors:
        return _read(arguments)


def _read(arguments):
    a = arguments.checked()
    captions = Captions.of(a.model, a.xdata, a.ydata)
    raw, a = a.ydata, a.listed()
    axis = axis_of(a.axis, a.ydata)
    labels, keys = Labels.of(raw, axis), keys_of(raw, axis)
    arrangement = Arrangement.of(a.ydata, axis, keys)
    a = a.arranged(arrangement)
    lists = isinstance(a.ydata, (list, tuple))
    ydata, batch = ydata_of(a.ydata)
    begin = begin_of(a.expand or a.model, a.p0, a.linear)
    given = None if begin.p0 is None else as_start(begin.p0, batch)
    trial = partial(trial_values, a.model, a.expand, given or begin.guess)
    x = a.xdata, a.xsigma
    parts, policy = parts_of(x, (ydata, lists), (a.sigma, a.mask), a.nan_policy, trial)
    if a.loss is POISSON:
        check_counts(parts)
    ragged = isinstance(ydata, list)
    parts = [_pieces(part, a, None if ragged else batch, policy) for part in parts]
    start: Any = given
    if begin.guess is not None:
        start = guessed_start(begin.guess, parts[0][1], policy, given)
        start = in_models_order(start, a.model) if a.p0 is None else start
    predict = _predict(a.model, a.expand, start.layout, a.jac)
    if a.loss is POISSON and begin.guess is not None:
        start = replace(start, guess=PositiveGuess(start.guess, predict))
    given = predict.by_name or a.expand is not None
    names = (None if given else names_of(a.model, start.layout.n)) or start.layout.names
    limits = Limits.of(bounds_of(a.model, a.bounds), a.fixed, start, names, batch)
    linear = linear_places(a.linear, names)
    check_separable(linear, names, limits, a.loss, a.jac)
    return FitData(
        parts=parts,
        batch=batch,
        lengths=np.array([len(y) for y in ydata]) if ragged else None,
        policy=policy,
        start=start,
        names=names,
        limits=limits,
        predict=predict,
        jac=a.jac,
        loss=a.loss,
        x_errors=None if a.xsigma is None else a.x_errors,
        absolute_sigma=a.absolute_sigma or a.loss is POISSON,
        labels=labels,
        linear=linear,
        sharing=Sharing.of(a.shared, names, linear, batch, keys),
        captions=captions,
        arrangement=arrangement,
    )


def _pieces(part, arguments, batch, policy):
    """``index, Pieces`` of data sets of one shape; a batch of None is that of a list."""
    index, x, y, sigma, live = part
    scale = arguments.f_scale if arguments.loss and arguments.loss is not POISSON else None
    points = {"sigma": sigma, "mask": live, "f_scale": scale}
    shape = (len(index),) if batch is None else batch
    return index, Pieces.of(x, y, points, shape, policy)


def _predict(model, expand, layout, jac):
    """The model as a function of the parameters that are fitted."""
    if expand is None:
        check_order(layout.keys, model, jac)
        check_count(model, layout.n, layout.keys)
        return Predict(model, bool(layout.keys))
    check_callable("expand", expand)
    if callable(jac):
        raise ValueError("jac is of the model's parameters and does not go with expand; leave it.")
    expanded = jax.eval_shape(expand, layout.unpack(np.zeros(layout.n)))
    return Predict(model, isinstance(expanded, dict), expand)
