"""Whether a model is one of single points, as errors in x need it.

The shift of a point's x is eliminated by that point alone, so that another point's value must not
change with it.  From the model's program that is seen without a number; where the program does not
tell (a lookup in a table), the model is evaluated with some of the x changed.
"""

from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from jaxlsq.batch.group import Group
from jaxlsq.lowering.narrow import spread_backwards
from jaxlsq.lowering.unrolled import unrolled
from jaxlsq.problem.functions import check_shape
from jaxlsq.problem.policy import find
from jaxlsq.problem.shifted import ShiftedResidual
from jaxlsq.problem.starts import Start
from jaxlsq.tracing.jaxprs import interpret, without_calls
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.untraceable import JAX_ERRORS, untraceable

__all__ = ["check_pointwise"]

# Roundings of the largest value that another one may change by.
SAME = 64.0
# Changes of parameters at which the model is evaluated, since at some it may not depend on x.
TRIALS = 3


def check_pointwise(group: Group, start: Start) -> None:
    """Raise ValueError for a model with errors in x that is not one of single points.

    Parameters
    ----------
    group : Group
        Whose residual is a `ShiftedResidual`; with any other there is nothing to check.
    start : Start

    Raises
    ------
    ValueError
    Untraceable
        If JAX can't trace the model.
    """
    residual = group.task.residual
    if not isinstance(residual, ShiftedResidual) or not group.total:
        return
    with own_settings(), jax.enable_x64(group.wide):
        if not _is_seen(group, residual) and not _is_found(group, residual, start):
            raise ValueError(
                "xsigma needs a model of single points, and this one's value at a point depends on "
                "x of other points (a sum over x, a convolution, x[0] or x[1] - x[0]). Pass what "
                "joins points as an exact array: a tuple as xdata, with None for it in xsigma."
            )


def _uncertain(group):
    """Numbers of the arrays of x that are uncertain."""
    return sorted(
        int(name.split(".")[1])
        for name in (*group.lanes, *group.shared)
        if name.startswith("xsigma.")
    )


def _is_seen(group, residual):
    """Whether the program shows that each value is of its own point's x."""
    lane, uncertain, layout = group.one, _uncertain(group), group.task.layout
    leaves, structure = jax.tree.flatten(residual.x(lane, group.shared))
    m = lane["y"].shape[0]

    def values(some, lane, scalars):
        given = jax.tree.leaves(residual.x(lane, group.shared))
        for number, leaf in zip(uncertain, some, strict=True):
            given[number] = leaf
        x = jax.tree.unflatten(structure, given)
        return residual.predict(layout.from_scalars(scalars), x)

    some = [jax.ShapeDtypeStruct(leaves[k].shape, leaves[k].dtype) for k in uncertain]
    scalars = [jax.ShapeDtypeStruct((), group.dtype)] * layout.n
    try:
        jaxpr, consts, _ = make_jaxpr(values, some, lane, scalars)
    except JAX_ERRORS as error:
        raise untraceable(error, "model, with xsigma,") from error
    program = jax.make_jaxpr(
        lambda inputs, consts: interpret(jaxpr, consts, inputs, without_calls)
    )([v.aval for v in jaxpr.invars], consts)
    if program.consts or jaxpr.outvars[0].aval.shape != (m,):
        return m == 1
    program = unrolled(program.jaxpr)
    return _points_alone(program, program.invars[: len(uncertain)], m)


def _points_alone(jaxpr, inputs, m):
    """Whether a point of the result is made of the same point of some of the inputs."""
    reached = set(inputs)
    for eqn in jaxpr.eqns:
        if any(v in reached for v in eqn.invars if not isinstance(v, Literal)):
            reached.update(eqn.outvars)
    places: dict[Any, set[Any]] = {jaxpr.outvars[0]: {((0, m),)}}
    if not spread_backwards(jaxpr, places, reached):
        return False
    return all(places.get(v, set()) <= {((v.aval.ndim - 1, m),)} for v in inputs)


# --- by evaluation -------------------------------------------------------------------


def _is_found(group, residual, start):
    """Whether values stay as they are while x of other points change.

    Points are numbered; for each binary digit x of those that have a one there are changed, and x
    of those that have a zero, so that any two points are apart once.
    """
    lane = {name: values[0] for name, values in group.block(0, 1, 1).items()}
    leaves, structure = jax.tree.flatten(residual.x(lane, group.shared))
    m = lane["y"].size
    numbers = np.arange(m)
    for params in _trials(group, start, lane):

        def values(changed, params=params):
            x = [np.asarray(leaf) for leaf in leaves]
            for k in _uncertain(group):
                sigma = find(f"xsigma.{k}", lane, group.shared)
                x[k] = np.where(changed, _other(x[k], np.asarray(sigma)), x[k])
            x = [jax.numpy.asarray(leaf) for leaf in x]
            x = jax.tree.unflatten(structure, x)
            out = np.asarray(residual.predict(params, x))
            check_shape(out.shape, (m,), x)
            return np.broadcast_to(out, (m,))

        before = values(np.zeros(m, bool))
        for digit in range(max(m - 1, 1).bit_length()):
            for side in (0, 1):
                changed = (numbers >> digit) & 1 == side
                if not _same(values(changed)[~changed], before[~changed]):
                    return False
    return True


def _trials(group, start, lane):
    """Parameters of the first data set, and others beside."""
    n = group.task.layout.n
    if start.array is not None:
        first = np.array(start.read(0, 1)[0], group.dtype)
    else:
        first = np.full(n, np.nan, group.dtype)
    if start.guess is not None and not np.all(np.isfinite(first)):
        guessed = np.asarray(start.guess(lane, group.shared))
        first = np.where(np.isfinite(first), first, guessed)
    first = np.where(np.isfinite(first), first, 1.0)
    rng = np.random.default_rng(0)
    for trial in range(TRIALS):
        moved = first * (1 + 0.1 * trial * rng.uniform(-1, 1, n)) + 0.1 * trial * rng.random(n)
        scalars = tuple(jax.numpy.asarray(one, group.dtype) for one in moved)
        yield group.task.layout.from_scalars(scalars)


def _other(x, sigma):
    """Other values of x, among those that there are."""
    step = np.where(np.isfinite(x), 0.37 * (np.roll(x, -1, axis=-1) - x), 0.0)
    return x + np.where(step == 0, 0.37 * np.broadcast_to(sigma, x.shape), step)


def _same(values, before):
    scale = np.max(np.abs(before), where=np.isfinite(before), initial=0.0)
    eps = np.finfo(before.dtype).eps if before.dtype.kind == "f" else 0.0
    return np.allclose(values, before, rtol=0, atol=SAME * eps * scale, equal_nan=True)
