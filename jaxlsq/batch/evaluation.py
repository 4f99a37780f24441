"""Data sets evaluated once, at parameters that are given: by machine code, or by XLA."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.group import Group
from jaxlsq.batch.interruption import waited
from jaxlsq.batch.machine import Given, Scratch, addresses
from jaxlsq.batch.program import separated, traced_task
from jaxlsq.lowering.algebra import triangle
from jaxlsq.lowering.engine import LANES, XLA, compiled_evaluation, one_point, target_for
from jaxlsq.lowering.evaluation import Evaluation
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.numerics.normal import normal_equations
from jaxlsq.problem.separable import Reduced
from jaxlsq.schedule.devices import workers_of
from jaxlsq.tracing.cache import PROGRAMS

__all__ = ["NormalRows", "compiled_rows", "gram_of", "packed_size"]

# Values at points that are worth a second thread.
SHARED_WORK = 1 << 20


def packed_size(n: int) -> int:
    """Numbers that a data set's normal equations are: half of J'J, J'f and f'f."""
    return n * (n + 1) // 2 + n + 1


class NormalRows:
    """The normal equations of all data sets of a problem, at any parameters.

    Derivatives that are not finite where the residual is come from differences.

    Parameters
    ----------
    problem : jaxlsq.batch.run.Problem
        Of groups that are computed in float64.
    exact : bool
        Whether to take the curvature of the loss that covariances are made of.

    Attributes
    ----------
    engine : str
    """

    def __init__(self, problem: Any, exact: bool = False) -> None:
        self.total: int = problem.total
        self.size: int = packed_size(problem.layout.n)
        self._parts = [(index, _OfGroup.of(group, exact)) for index, group in problem.groups]
        self.engine: str = "; ".join(dict.fromkeys(part.engine for _, part in self._parts))

    def __call__(self, x: NDArray[Any], stop: Callable[[], bool] | None = None) -> NDArray[Any]:
        """(total, packed_size(n)) at (total, n); NaN where `stop` said so, as for `Group.map`."""
        if len(self._parts) == 1:
            return self._parts[0][1](x, stop)
        out = np.empty((self.total, self.size))
        for index, part in self._parts:
            out[index] = part(x[index], stop)
        return out


def gram_of(group: Group, x: NDArray[Any]) -> NDArray[Any]:
    """(total, n, n) J'J of a group in float64 at (total, n), as covariances are made of it."""
    half, n = _OfGroup.of(group, True)(x, None), group.task.layout.n
    gram = np.empty((group.total, n, n))
    for k, (i, j) in enumerate(triangle(n)):
        gram[:, i, j] = gram[:, j, i] = half[:, k]
    return gram


@dataclass(frozen=True)
class _OfGroup:
    """`NormalRows` of one group."""

    group: Group
    evaluate: Callable[..., NDArray[Any]]
    engine: str

    @classmethod
    def of(cls, group, exact):
        task = group.task
        if exact and task.loss is not None:
            group = replace(group, task=replace(task, loss=task.loss.exact))
        try:
            return cls(group, compiled_rows(group, False), LANES)
        except NotLowered as reason:
            evaluate = partial(group.map, partial(_normal, group.task, False))
            return cls(group, evaluate, f"{XLA}: {reason}")

    def __call__(self, x, stop):
        group, out = self.group, self.evaluate(x, stop)
        broken = ~np.isfinite(out).all(axis=1) & np.isfinite(out[:, -1])
        if broken.any():
            some = np.flatnonzero(broken)
            out[some] = group.take(some).map(partial(_normal, group.task, True), x[some])
        return out


def _normal(task, repair, x, lane, shared):
    """Half of J'J, J'f and f'f of one data set."""
    rows, columns = task.lane(lane, shared, repair)(tuple(x))
    normal, norm = normal_equations(columns, rows, jnp.ones((), x.dtype))
    half = normal.gram[np.triu_indices(len(columns))]
    return jnp.concatenate([half, normal.gradient, jnp.square(norm)[None]])


@dataclass(frozen=True)
class _Rows:
    """A compiled evaluation of a group's data sets."""

    group: Group
    evaluation: Evaluation
    call: Callable[..., None]
    given: Given
    width: int

    def __call__(self, x: NDArray[Any], stop: Callable[[], bool] | None = None) -> NDArray[Any]:
        """The rows (total, results), at (total, given) numbers; NaN where `stop` said so."""
        group, one = self.group, self.evaluation
        x = np.ascontiguousarray(x, np.float64)
        out = np.full((group.total, one.results), np.nan)
        workers = workers_of(())
        work = group.total * one.point.points * (one.n + 1)
        parts = workers if work > SHARED_WORK else 1
        size = group.block_size(parts)
        ends = [(first, min(first + size, group.total)) for first in range(0, group.total, size)]

        def block(first, last):
            if not (stop and stop()):
                self._block(x, out, first, last)

        if parts == 1 or len(ends) == 1:
            for pair in ends:
                block(*pair)
            return out
        executor = ThreadPoolExecutor(parts)
        try:
            futures = [executor.submit(block, *pair) for pair in ends]
            waited(futures)
            for future in futures:
                future.result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
        return out

    def _block(self, x, out, first, last):
        """Everything that the machine code is given lives until it returns."""
        block = self.group.block(first, last, last - first)
        inputs = self.given.arrays(jax.tree.leaves(block))
        given, rows = x[first:last], out[first:last]
        table = addresses((given, rows, *inputs))
        points = self.evaluation.point.points
        scratch = Scratch(self.evaluation.scratch_bytes(self.width, points))
        self.call(0, last - first, points, table.ctypes.data, scratch.begin)


def compiled_rows(group: Group, complete: bool) -> Callable[..., NDArray[Any]]:
    """``rows(numbers, stop=None)`` of all data sets; see `jaxlsq.lowering.evaluation.Evaluation`.

    Raises
    ------
    NotLowered
        If machine code can't be made for it; the message is the reason.
    """
    task, wide = group.task, np.dtype(np.float64)
    if group.dtype != wide or task.repairs or task.evaluations:
        raise NotLowered("not in float64, or differences")
    with jax.enable_x64(True):
        one, n = group.one, task.layout.n
        count = n
        elimination, outputs = None, 1 + n if task.loss is None else 3 + n
        if isinstance(task, Reduced):
            traced, elimination = separated(task, one, group.shared)
            outputs, count = elimination.results, elimination.n
            target = target_for(count, wide)
        else:
            target = target_for(n, wide)
            traced = traced_task(task, one, group.shared, wide)
        leaves, others = jax.tree.leaves(one), jax.tree.leaves(group.shared)
        of_lane = [*[True] * len(leaves), *[False] * len(others)]

        def make():
            try:
                point = one_point(traced, count, of_lane, outputs)
            except NotLowered as reason:
                return str(reason)
            evaluation = Evaluation(point, n, elimination, complete)
            return evaluation, compiled_evaluation(evaluation, target)

        kinds = n, complete, elimination, tuple(of_lane), outputs, target
        made = PROGRAMS.get(traced.key and ("evaluation of", traced.key, kinds), make)
        if isinstance(made, str):
            raise NotLowered(made)
        evaluation, call = made
        blocks = [jax.ShapeDtypeStruct((1, *v.shape), v.dtype) for v in leaves]
        given = Given.of(evaluation.point, traced, blocks, others)
        return _Rows(group, evaluation, call, given, target.width(wide))
