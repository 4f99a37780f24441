"""A problem whose model only Python can call: the same with callbacks, and differences."""

from dataclasses import replace
from typing import TYPE_CHECKING

from jaxlsq.problem.functions import ModelResidual, Predict
from jaxlsq.problem.host_models import HostModel
from jaxlsq.problem.task import Task
from jaxlsq.tracing.untraceable import Untraceable

if TYPE_CHECKING:
    from jaxlsq.batch.run import Problem

__all__ = ["on_host"]


def on_host(problem: "Problem", error: Untraceable) -> tuple["Problem", HostModel]:
    """A problem with its model as a `HostModel`, and that.

    Raises
    ------
    Untraceable
        The error, where that is no way out: for a general residual, and where the derivatives
        that were asked for are JAX's.
    """
    model = problem.model
    if not isinstance(model, Predict) or not model.differentiable:
        raise error
    host = HostModel(model.model)
    predict = replace(model, model=host)
    groups = tuple(
        (index, replace(group, task=_task_on_host(group.task, predict, error)))
        for index, group in problem.groups
    )
    settings = replace(problem.settings, workers=1)
    return replace(problem, groups=groups, model=predict, settings=settings), host


def _task_on_host(task: Task, predict: Predict, error: Untraceable) -> Task:
    if not isinstance(task.residual, ModelResidual) or task.jac == "jacrev":
        raise error
    jac = "2-point" if task.jac in ("jacfwd", "cs") else task.jac
    return replace(task, residual=replace(task.residual, predict=predict), jac=jac)
