"""`least_squares_batch`, and how a batch runs: interruption, errors, progress, threads."""

import sys
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq.batch.group
from jaxlsq import FitResult, Interrupted, Status, fit, least_squares_batch, leastsq
from tests.decays import P0, SIGMA, TRUTH, B, Sliced, T, Y, decay, decay_jac, decay_np, noise

TIGHT = {"ftol": 1e-12, "xtol": 1e-12}
DATA = {"y": Y, "gain": np.arange(1, B + 1)}  # with integers


def residual(p, d):
    return d["gain"] * decay(T, p[0], p[1]) - d["y"]


def rows(p, d):
    return d["gain"] * decay_jac(T, p[0], p[1])


@pytest.fixture(scope="module")
def plain():
    return least_squares_batch(residual, P0, DATA)


@pytest.fixture(scope="module")
def loop():
    """`jaxlsq.leastsq` of each problem."""

    def one(i):
        d = {"y": Y[i], "gain": float(i + 1)}
        return leastsq(lambda p: residual(p, d), P0, full_output=True)

    return [one(i) for i in range(B)]


# --- parameters and data ------------------------------------------------------------


def test_equals_a_loop_of_leastsq(plain, loop):
    assert plain.success.all()
    assert plain.shape == (B,)
    assert len(np.unique(plain.nfev)) > 1
    np.testing.assert_allclose(plain.params, [x for x, *_ in loop], rtol=1e-7)
    np.testing.assert_array_equal(plain.nfev, [info["nfev"] for _, _, info, *_ in loop])
    np.testing.assert_array_equal(plain.status, [ier for *_, ier in loop])
    np.testing.assert_allclose(plain.residuals, [i["fvec"] for _, _, i, *_ in loop], atol=1e-8)
    unscaled = np.array([cov for _, cov, *_ in loop])
    variance = 2 * plain.cost / plain.dof
    np.testing.assert_allclose(plain.cov, unscaled * variance[:, None, None], rtol=1e-5)


def test_equals_fit(plain):
    result = fit(decay, T, Y / DATA["gain"][:, None], P0)
    np.testing.assert_allclose(plain.x, result.x, rtol=1e-6)


def test_x0_of_each_problem(plain):
    start = TRUTH / DATA["gain"][:, None]
    result = least_squares_batch(residual, start, DATA)
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-6)
    assert np.any(result.nfev != plain.nfev)
    same = least_squares_batch(residual, jnp.asarray(np.ones((B, 2))), DATA)
    np.testing.assert_array_equal(same.x, plain.x)


def named(p, d):
    return residual((p["a"], p["rest"][0][0]), d)


def test_parameters_may_be_a_nested_pytree(plain):
    result = least_squares_batch(named, {"a": 1.0, "rest": [np.ones(1)]}, DATA)
    np.testing.assert_array_equal(result.params["a"], plain.x[:, 0])
    assert result.params["rest"][0].shape == (B, 1)
    np.testing.assert_array_equal(result.params["rest"][0][:, 0], plain.x[:, 1])
    assert result.stderr["rest"][0].shape == (B, 1)
    assert list(result.to_dict())[:2] == ["a", "rest.0[0]"]


def test_pytrees_of_each_problem(plain):
    x0 = {"a": np.ones(B), "rest": [np.ones((B, 1))]}
    x0["a"][3] = 2.0
    result = least_squares_batch(named, x0, DATA)
    expected = np.ones((B, 2))
    expected[3, 0] = 2.0
    expected = least_squares_batch(residual, expected, DATA)
    np.testing.assert_array_equal(result.params["a"], expected.x[:, 0])
    np.testing.assert_array_equal(result.nfev, expected.nfev)
    others = np.arange(B) != 3
    np.testing.assert_array_equal(result.x[others], plain.x[others])


def test_data_may_be_a_nested_pytree_with_integers():
    seen = []

    def fun(p, d):
        y, (picks, flags) = d
        seen.append((y.dtype, picks.dtype, flags.dtype))
        p = p[picks.astype(int)]
        return jnp.where(flags, p * 2.0 - y, p - y)

    picks = np.tile([[0, 1, 0, 1]], (B, 1))
    flags = np.tile([[True, False, True, False]], (B, 1))
    y = np.where(flags, 2.0, 1.0) * np.take_along_axis(TRUTH, picks, axis=1)
    result = least_squares_batch(fun, [1, 1], (y, [picks, flags]))
    np.testing.assert_allclose(result.x, TRUTH, rtol=1e-12)
    assert set(seen) == {(np.dtype(float),) * 3}


def test_dtypes():
    y, weight = Y.astype(np.float32), np.arange(1, B + 1, dtype=np.int16)
    result = least_squares_batch(residual, P0, {"y": y, "gain": weight})
    assert result.x.dtype == np.float32
    assert result.success.all()
    whole = least_squares_batch(lambda p, d: p - d, [0.5, 0.5], np.arange(2 * B).reshape(B, 2))
    assert whole.x.dtype == np.float64
    np.testing.assert_allclose(whole.x, np.arange(2 * B).reshape(B, 2), atol=1e-12)


def test_float32_after_a_float64_trace_that_failed():
    """JAX remembers the closed-over T of that trace as float64."""

    def bare(p, y):
        return decay(T, p[0], p[1]) - y

    with pytest.raises(ValueError, match="jac must return shape"):
        least_squares_batch(bare, P0, Y, jac=lambda p, y: jnp.ones(20))
    y, gain = Y.astype(np.float32), np.arange(1, B + 1, dtype=np.int16)
    assert least_squares_batch(residual, P0, {"y": y, "gain": gain}).x.dtype == np.float32


def test_a_jacobian_of_the_user(plain):
    result = least_squares_batch(residual, P0, DATA, jac=rows)
    np.testing.assert_allclose(result.x, plain.x, rtol=1e-6)
    np.testing.assert_array_equal(result.njev, plain.njev)
    stuck = least_squares_batch(residual, P0, DATA, jac=lambda p, d: -rows(p, d))
    assert np.all(stuck.nit == 0)


@pytest.mark.parametrize("columns", [1, 3], ids=["too few", "too many"])
def test_a_jacobian_with_wrong_columns_raises(columns, compiles):
    def wrong(p, d):
        return jnp.concatenate([rows(p, d), rows(p, d)], axis=1)[:, :columns]

    before = compiles()
    with pytest.raises((TypeError, ValueError), match="jac"):
        least_squares_batch(residual, P0, DATA, jac=wrong)
    assert compiles() == before


def test_sliced_data_and_starts(plain):
    result = least_squares_batch(residual, P0, {"y": Sliced(Y), "gain": Sliced(DATA["gain"])})
    np.testing.assert_array_equal(result.x, plain.x)
    many = least_squares_batch(residual, P0, DATA, starts=3)
    np.testing.assert_allclose(many.cost, plain.cost, rtol=1e-6)
    assert np.all(many.agreed == 3)


def test_nonfinite_data_end_their_problem(plain):
    y = Y.copy()
    y[3, 5] = np.nan
    result = least_squares_batch(residual, P0, DATA | {"y": y})
    assert result.status[3] in (Status.NONFINITE_START, Status.NONFINITE_DATA)
    others = np.arange(B) != 3
    np.testing.assert_array_equal(result.x[others], plain.x[others])


# --- how a batch runs ----------------------------------------------------------------

MANY = 160
MANY_TRUTH = np.random.default_rng(9).uniform((1.0, 0.3), (3.0, 2.5), (MANY, 2))
MANY_Y = decay_np(T, *MANY_TRUTH.T[:, :, None]) + noise((MANY, T.size), 10)
WAIT_S = 30.0


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(jaxlsq.batch.group, "BLOCK_PROBLEMS", 8)
    monkeypatch.setattr(jaxlsq.batch.group, "LEAST_PROBLEMS", 1)


@pytest.fixture
def many(small_blocks):
    return fit(decay, T, MANY_Y, P0)


class Slow:
    """Data whose second half is held back until the first report, and then comes slowly."""

    def __init__(self):
        self.reported = threading.Event()
        self.data = Sliced(MANY_Y, self._before)

    def _before(self, index):
        if index.start >= MANY // 2:
            assert self.reported.wait(WAIT_S)
            time.sleep(0.05)


def interrupted(**options):
    """A fit interrupted at the first report of something done."""
    slow = Slow()

    def progress(done, total):
        if done > 0 and not slow.reported.is_set():
            slow.reported.set()
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"of \d+ fits are done.*sys.last_value.*refit") as info:
        fit(decay, T, slow.data, P0, progress=progress, **options)
    return info.value.result


def test_interruption_keeps_what_is_done_and_refit_finishes_it(many):
    result = interrupted()
    assert isinstance(result, FitResult)
    rest = result.status == Status.INTERRUPTED
    assert 0 < rest.sum() < MANY
    assert rest[-1]
    assert np.isnan(result.x[rest]).all()
    assert np.isnan(result.cost[rest]).all()
    assert np.isnan(result.cov[rest]).all()
    np.testing.assert_allclose(result.x[~rest], many.x[~rest], rtol=1e-9)
    assert "refit" in result.message(int(np.flatnonzero(rest)[0]))
    whole = result.refit(where=result.status == Status.INTERRUPTED, progress=False)
    assert whole.success.all()
    np.testing.assert_array_equal(whole.x[~rest], result.x[~rest])
    np.testing.assert_allclose(whole.x, many.x, rtol=1e-9)
    np.testing.assert_array_equal(whole.dof, many.dof)


def test_interruption_of_ragged_float32_data(small_blocks):
    ys = [y[: 12 + i % 2].astype(np.float32) for i, y in enumerate(MANY_Y[:32])]
    xs = [T[: len(y)].astype(np.float32) for y in ys]

    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as info:
        fit(decay, xs, ys, P0, progress=progress)
    result = info.value.result
    rest = result.status == Status.INTERRUPTED
    assert rest[1::2].all()  # the longer ones, a group of their own
    assert result.x.dtype == np.float32
    assert result.refit(progress=False).success.all()


def test_an_exception_in_progress_reaches_the_caller(small_blocks):
    class Mine(Exception):
        pass

    def progress(done, total):
        raise Mine("no room")

    with pytest.raises(Mine, match="no room"):
        fit(decay, T, MANY_Y, P0, progress=progress)
    deadline = time.monotonic() + 5.0
    while left := [t for t in threading.enumerate() if t.name.startswith("jaxlsq")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_an_exception_in_the_reader_reaches_the_caller(small_blocks):
    def before(index):
        if index.start >= MANY // 2:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fit(decay, T, Sliced(MANY_Y, before), P0)
    assert fit(decay, T, MANY_Y, P0).success.all()


def test_progress_counts_up_to_the_total(small_blocks):
    calls, lengths = [], [12 + i % 2 for i in range(MANY)]
    ys = [y[:k] for y, k in zip(MANY_Y, lengths, strict=True)]
    for data, x in ((MANY_Y, T), (ys, [T[:k] for k in lengths])):
        calls.clear()
        fit(decay, x, data, P0, starts=2, progress=lambda *call: calls.append(call))
        done = [d for d, _ in calls]
        assert {total for _, total in calls} == {MANY}
        assert done == sorted(done)
        assert done[-1] == MANY
        assert done.count(MANY) == 1


def test_progress_without_tqdm_writes_a_line(small_blocks, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    fit(decay, T, MANY_Y, P0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "160 of 160 fits (100%)" in err
    assert err.endswith("a second\n")


def test_progress_with_tqdm(small_blocks, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    fit(decay, T, MANY_Y, P0, progress=True)
    assert "160/160" in capsys.readouterr().err


@pytest.mark.parametrize("sigma", [None, SIGMA[0]])
def test_threads_do_not_matter(small_blocks, monkeypatch, sigma):
    results, names = [], []
    for cores in (1, 2):
        monkeypatch.setattr(jaxlsq.batch.group, "workers_of", lambda _, cores=cores: cores)
        seen = set()

        def before(index, seen=seen):
            seen.add(threading.get_ident())
            time.sleep(0.001)

        results.append(fit(decay, T, Sliced(MANY_Y, before), P0, sigma=sigma))
        names.append(len(seen - {threading.get_ident()}))  # one row is read before the others
    one, two = results
    assert names == [1, 2]
    np.testing.assert_array_equal(one.status, two.status)
    np.testing.assert_array_equal(one.nfev, two.nfev)
    np.testing.assert_allclose(one.x, two.x, rtol=1e-12)
