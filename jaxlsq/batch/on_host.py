"""A problem whose function only Python can call: the same with callbacks, and differences."""

from dataclasses import replace
from typing import Any

import numpy as np

from jaxlsq.problem.functions import ModelResidual, Predict
from jaxlsq.problem.general import FunResidual
from jaxlsq.problem.guesses import PositiveGuess
from jaxlsq.problem.host_models import HostModel, HostResidual
from jaxlsq.problem.task import Task
from jaxlsq.tracing.untraceable import Untraceable

__all__ = ["on_host"]


def on_host(problem: Any, error: Untraceable) -> tuple[Any, HostModel]:
    """A `jaxlsq.batch.run.Problem` with its model, or its residual, as a `HostModel`, and that.

    Raises
    ------
    Untraceable
        The error, where that is no way out: the function is one already, or the derivatives that
        were asked for are JAX's.
    Exception
        What a general residual raises, which is called once to see how long it is.
    """
    model, task = problem.model, problem.groups[0][1].task
    residual = task.residual
    known = isinstance(residual, (ModelResidual, FunResidual)) and not task.eliminated
    if task.jac == "jacrev" or not known:
        raise error
    parts: dict[str, Any] = {}
    if isinstance(model, Predict) and model.differentiable:
        host = HostModel(model.model)
        parts["model"] = replace(model, model=host)
        of_residual = {"predict": parts["model"]}
    elif isinstance(residual, FunResidual) and not isinstance(residual.fun, HostResidual):
        fun = HostResidual.of(residual.fun, *_first(problem, residual))
        host, of_residual = fun.model, {"fun": fun}
    else:
        raise error
    parts["groups"] = tuple(
        (index, replace(group, task=_task_on_host(group.task, of_residual)))
        for index, group in problem.groups
    )
    parts["settings"] = replace(problem.settings, workers=1)
    if isinstance(problem.start.guess, PositiveGuess):  # which asks the model
        parts["start"] = replace(problem.start, guess=problem.start.guess.guess)
    return replace(problem, **parts), host


def _first(problem, residual):
    """Parameters and data of the first problem."""
    group, start = problem.groups[0][1], problem.start
    lane = {name: values[0] for name, values in group.block(0, 1, 1).items()}
    x0 = np.ones(problem.layout.n) if start.array is None else start.read(0, 1)[0]
    x0 = np.where(np.isnan(x0), 1.0, x0)  # what is guessed
    return problem.layout.unpack(x0), residual.join(lane, group.shared)


def _task_on_host(task: Task, of_residual: dict[str, Any]) -> Task:
    jac = "2-point" if task.jac in ("jacfwd", "cs") else task.jac
    residual: Any = task.residual
    return replace(task, residual=replace(residual, **of_residual), jac=jac)
