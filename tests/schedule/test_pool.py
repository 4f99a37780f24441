"""The lane pool: each fit as if it were alone, and a pool kept from block to block."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from jaxlsq.schedule.pool import advance, empty_pool
from jaxlsq.schedule.queue import Ended, Place, Queue
from jaxlsq.status import SUCCESS, Status
from jaxlsq.tracing.compiler import POOL_OPTIONS
from tests.problems.lanes import SIZE, WIDTH, decay, fit, lane_of, options, problems

LANE = lane_of(decay)


def assert_equal(one, other, rows=slice(None), other_rows=slice(None)):
    """Bitwise, in every field."""
    for mine, its in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(mine)[rows], np.asarray(its)[other_rows])


def assert_close(one, other):
    """Fits of `problems` to rounding, but for a last step within the tolerances, or what ended it.

    That is all XLA's pools promise where shapes differ: it may add in another order.
    """
    np.testing.assert_allclose(one.x, other.x, rtol=1.5e-8)
    np.testing.assert_allclose(one.cost, other.cost, rtol=1e-12)
    same = np.asarray(one.nit) == np.asarray(other.nit)
    assert np.mean(same) > 0.9
    np.testing.assert_allclose(one.x[same], other.x[same], rtol=1e-12)
    for field in ("nfev", "njev"):
        np.testing.assert_array_equal(getattr(one, field)[same], getattr(other, field)[same])
    for k in np.flatnonzero(same & (one.status != other.status)):
        assert_chance_between(one, other, k)


def assert_chance_between(one, other, k):
    """Fit k of `problems` ended by xtol; whether by ftol too, is a ratio of two roundings.

    Of what the last step saved, divided by what it promised; see `reduction_test`.
    """
    assert {int(one.status[k]), int(other.status[k])} == {Status.XTOL, Status.FTOL_AND_XTOL}
    x0, y = problems()
    before = fit(x0, y, max_nfev=one.nfev[k] - 1).cost[k]
    np.testing.assert_allclose(before, [one.cost[k], other.cost[k]], rtol=1e-14)


def test_every_problem_as_if_alone(x64):
    x0, y = problems()
    together = fit(x0, y)
    assert isinstance(together, Ended)
    assert np.max(together.nfev) >= 2 * np.min(together.nfev)
    assert set(together.status.tolist()) <= SUCCESS
    alone = [fit(x0[k : k + 1], y[k : k + 1]) for k in range(SIZE)]
    assert_close(together, jax.tree.map(lambda *v: np.concatenate(v), *alone))


@pytest.mark.long_but("1", "8", "17")
@pytest.mark.parametrize("size", [1, WIDTH - 1, WIDTH, WIDTH + 1, SIZE])
def test_results_do_not_depend_on_the_number_of_problems(x64, size):
    x0, y = problems()
    whole, part = fit(x0, y), fit(x0[:size], y[:size])
    assert part.x.shape == (size, 3)
    first = jax.tree.map(lambda v: v[:size], whole)
    if size >= WIDTH:
        assert_equal(part, first)
    else:
        assert_close(part, first)


@pytest.mark.long_but("3", "18")
@pytest.mark.parametrize("width", [1, 3, SIZE + 1])
def test_results_do_not_depend_on_the_width(x64, width):
    x0, y = problems()
    assert_close(fit(x0, y, width), fit(x0, y))


@pytest.mark.parametrize("factor", [100.0, 0.1])
def test_results_do_not_depend_on_the_order(x64, factor):
    """With a small factor, the first steps are damped already."""
    x0, y = problems()
    order = np.random.default_rng(1).permutation(SIZE)
    plain = fit(x0, y, factor=factor)
    assert_equal(fit(x0[order], y[order], factor=factor), plain, other_rows=order)
    assert np.median(plain.nfev) > (6 if factor < 1 else 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200, 0.0])
def test_bad_neighbours_change_nothing(x64, bad):
    x0, y = problems()
    spoiled, others = y.copy(), np.arange(SIZE) % 3 != 1
    spoiled[~others] = bad
    start = x0.copy()
    start[4] = (1e3, -1e3, 1e3)  # overflows
    result = fit(start, spoiled)
    assert_equal(result, fit(x0, y), others, others)
    assert result.status[4] == Status.NONFINITE_START
    if not np.isfinite(bad):
        np.testing.assert_array_equal(result.status[~others], Status.NONFINITE_START)


def test_cost_and_optimality_are_those_of_the_parameters(x64):
    x0, y = problems()
    for changes in ({}, {"max_nfev": 3}):
        result = fit(x0, y, **changes)
        f = np.array([decay(*x, row) for x, row in zip(result.x, y, strict=True)])
        np.testing.assert_allclose(result.cost, 0.5 * np.sum(f * f, axis=1), rtol=1e-12)
    at_start = fit(x0, y, gtol=1.0)
    f = jax.vmap(lambda x, row: decay(*x, row))(x0, y)
    jac = jax.vmap(jax.jacfwd(lambda x, row: decay(*x, row)))(x0, y)
    gradient = np.max(np.abs(np.einsum("bmn,bm->bn", jac, f)), axis=1)
    np.testing.assert_array_equal(at_start.x, x0)
    np.testing.assert_allclose(at_start.optimality, gradient, rtol=1e-12)


ADVANCE = jax.jit(partial(advance, LANE), **POOL_OPTIONS)


def queue_of(x0, y, count=None, status=None, starts=1):
    size = len(x0)
    status = np.full(size, Status.RUNNING, np.int32) if status is None else status
    return Queue(x0, y, status, np.int32(size if count is None else count), starts=starts)


def begin(queue, width=WIDTH):
    return jax.jit(lambda queue: empty_pool(queue, width))(queue)


def work(pool, queue, drain):
    pool, ended, place, _ = ADVANCE(pool, queue, options(), drain, Place.first(queue))
    assert place.issued == queue.count
    return jax.tree.map(np.asarray, (pool, ended))


def assert_filled(result, expected, rows, other_rows):
    """Rows that have ended equal the expected ones."""
    assert np.all(result.status[rows] != Status.RUNNING)
    assert_equal(result, expected, rows, other_rows)


def test_a_pool_kept_between_blocks_gives_what_one_run_gives(x64):
    x0, y = problems(size=2 * SIZE)
    halves = slice(SIZE), slice(SIZE, None)
    expected = [fit(x0[half], y[half]) for half in halves]
    first, second = (queue_of(x0[half], y[half]) for half in halves)
    pool, early = work(begin(first), first, False)
    held = pool.problem
    lanes = np.flatnonzero(held >= 0)
    assert lanes.size > WIDTH // 2
    assert early.x.shape == (SIZE + WIDTH, 3)
    np.testing.assert_array_equal(
        np.sort(held[lanes]), np.flatnonzero(early.status[:SIZE] == Status.RUNNING)
    )
    np.testing.assert_array_equal(early.status[SIZE:], Status.RUNNING)
    done = np.setdiff1d(np.arange(SIZE), held)
    assert done.size > 2
    assert_filled(early, expected[0], done, done)

    pool, late = work(pool, second, True)
    np.testing.assert_array_equal(pool.problem, -1)
    assert_filled(late, expected[1], slice(SIZE), slice(None))
    assert_filled(late, expected[0], SIZE + lanes, held[lanes])
    np.testing.assert_array_equal(np.delete(late.status[SIZE:], lanes), Status.RUNNING)


def test_lanes_that_are_kept_through_blocks_are_drained_by_an_empty_one(x64):
    x0, y = problems()
    queue = queue_of(x0, y)
    empty = replace(queue, count=np.int32(0))
    pool, _ = work(begin(queue), queue, False)
    held, lanes = pool.problem, np.flatnonzero(pool.problem >= 0)
    pool, nothing = work(pool, empty, False)
    np.testing.assert_array_equal(nothing.status, Status.RUNNING)
    np.testing.assert_array_equal(pool.problem[lanes], SIZE + lanes)
    pool, late = work(pool, empty, True)
    np.testing.assert_array_equal(pool.problem, -1)
    np.testing.assert_array_equal(late.status[:SIZE], Status.RUNNING)
    assert_filled(late, fit(x0, y), SIZE + lanes, held[lanes])


@pytest.mark.parametrize("count", [0, 1, WIDTH, SIZE - 1])
def test_only_the_first_problems_are_real(x64, count):
    x0, y = problems()
    queue = queue_of(x0, np.where(np.arange(SIZE)[:, None] < count, y, np.nan), count)
    pool, result = work(begin(queue), queue, True)
    np.testing.assert_array_equal(pool.problem, -1)
    assert_filled(result, fit(x0, y), slice(count), slice(count))
    np.testing.assert_array_equal(result.status[count:], Status.RUNNING)


def test_starts_share_their_data(x64):
    x0, y = problems(size=WIDTH + 1)
    queue = queue_of(x0, y[:3], starts=3)
    _, result = work(begin(queue), queue, True)
    assert_filled(result, fit(x0, np.repeat(y[:3], 3, axis=0)), slice(WIDTH + 1), slice(None))
    assert len(set(result.nfev[: WIDTH + 1].tolist())) > 2


def test_problems_with_a_status_are_not_begun(x64):
    x0, y = problems()
    status = np.full(SIZE, Status.RUNNING, np.int32)
    preset = np.array([0, 3, 4, SIZE - 1])
    status[preset] = [Status.NONFINITE_DATA, Status.TOO_FEW_POINTS, -4, -5]
    queue = queue_of(x0, y, status=status)
    pool, result = work(begin(queue), queue, True)
    np.testing.assert_array_equal(pool.problem, -1)
    others = np.setdiff1d(np.arange(SIZE), preset)
    assert_filled(result, fit(x0, y), others, others)
    np.testing.assert_array_equal(result.status[preset], status[preset])
    np.testing.assert_array_equal(result.x[preset], x0[preset])
    np.testing.assert_array_equal(result.nit[preset], 0)


def test_problems_with_a_status_have_no_evaluations(x64):
    x0, y = problems()
    queue = queue_of(x0, y, status=np.full(SIZE, Status.TOO_FEW_POINTS, np.int32))
    _, result = work(begin(queue), queue, True)
    np.testing.assert_array_equal(result.nfev[:SIZE], 0)
    np.testing.assert_array_equal(result.njev[:SIZE], 0)
