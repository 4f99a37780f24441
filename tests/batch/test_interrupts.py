"""Ctrl-C, as a real signal, in every kind of run: it is answered soon, and nothing is lost."""

import gc
import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxlsq.batch.interruption import Interruption
from jaxlsq.batch.stream import CALL_S, FIRST_ROUNDS, Pace
from jaxlsq.schedule.queue import Place
from tests.problems.lanes import fit, options, problems
from tests.schedule.test_pool import ADVANCE, assert_equal, begin, queue_of

HEAD = """
import os, signal, sys, threading, time
import jax, jax.numpy as jnp, numpy as np
import jaxlsq
from jaxlsq import Interrupted, Status

T = np.linspace(0.1, 4.0, 24)
N = 40_000
RATES = np.random.default_rng(0).uniform(0.5, 2.0, N)
Y = 2.5 * np.exp(-RATES[:, None] * T) + 0.3
PRESSED = []

def heavy(x):
    # So slow that all fits take many seconds.
    return jax.lax.fori_loop(0, 400, lambda i, v: v + 1e-9 * jnp.sin(v), x)

def model(t, a, k, c):
    return heavy(a * jnp.exp(-k * t) + c)

P0 = [1.0, 1.0, 0.0]

def press(times=1, after=0.4, apart=0.02):
    def run():
        time.sleep(after)
        for _ in range(times):
            PRESSED.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(apart)
    threading.Thread(target=run, daemon=True).start()

def pressing(times=1, after=0.4):
    '''Progress that presses when the first fits are done.'''
    def progress(done, total):
        if done and not PRESSED:
            press(times, after)
            PRESSED.append(time.monotonic())
    return progress

def check(result, shape=(N,)):
    '''Some is done, and right; the rest says that it is not.'''
    took = time.monotonic() - PRESSED[1]
    assert took < 1.0, took
    rest = result.status == Status.INTERRUPTED
    assert result.shape == shape, result.shape
    assert 0 < rest.sum() < rest.size, rest.sum()
    assert np.isnan(result.x[rest]).all() and np.isnan(result.cost[rest]).all()
    assert result.success[~rest].all()
    return rest
"""


# Each is run in one process after the other, so that little is compiled twice.
SCENARIOS = {
    "two presses": """
        handler = signal.getsignal(signal.SIGINT)
        try:
            jaxlsq.fit(model, T, Y, P0, progress=pressing(2))
        except KeyboardInterrupt as error:
            rest = check(error.result)
            np.testing.assert_allclose(error.result.x[~rest, 1], RATES[~rest], rtol=1e-4)
            assert type(error) is Interrupted
            assert "of 40,000 fits are done" in str(error)
            assert "sys.last_value.result" in str(error)
            first = error.result
        else:
            raise AssertionError("was not interrupted")
        assert signal.getsignal(signal.SIGINT) is handler
    """,
    "ten presses, in refit": """
        rest = first.status == Status.INTERRUPTED
        try:
            first.refit(where=rest, progress=pressing(10))
        except Interrupted as error:
            second = error.result
        check(second)
        np.testing.assert_array_equal(second.x[~rest], first.x[~rest])
        assert np.sum(second.status == Status.INTERRUPTED) < rest.sum()
    """,
    "a loop over files": """
        seen = []
        try:
            for number in range(3):
                seen.append(number)
                jaxlsq.fit(model, T, Y, P0, progress=pressing(2))
        except KeyboardInterrupt:
            pass
        assert seen == [0]
    """,
    "several groups": """
        ys = [y[:24 - 10 * (i % 2)] for i, y in enumerate(Y)]
        try:
            jaxlsq.fit(model, [T[:len(y)] for y in ys], ys, P0, progress=pressing(2))
        except Interrupted as error:
            check(error.result)
        else:
            raise AssertionError("was not interrupted")
    """,
    "starts": """
        try:
            jaxlsq.fit(model, T, Y, P0, starts=3, progress=pressing(2))
        except Interrupted as error:
            check(error.result)
        else:
            raise AssertionError("was not interrupted")
    """,
    "float32, polished": """
        try:
            jaxlsq.fit(
                model, T.astype("f"), Y.astype("f"), P0, polish="float64", progress=pressing(2))
        except Interrupted as error:
            check(error.result)
        else:
            raise AssertionError("was not interrupted")
    """,
    "least_squares_batch": """
        try:
            jaxlsq.least_squares_batch(
                lambda p, y: model(T, *p) - y, P0, Y, progress=pressing(2))
        except Interrupted as error:
            check(error.result)
        else:
            raise AssertionError("was not interrupted")
    """,
    "a compilation": """
        def long(t, a, k, c):  # to compile
            y = heavy(a * jnp.exp(-k * t) + c)
            for i in range(150):
                y = y + 1e-9 * jnp.sin(y * (i + 1.5)) * jnp.cos(y - i)
            return y

        press(times=2, after=3.0)  # in the middle of its trace, or of what follows
        try:
            jaxlsq.fit(long, T, Y[:100], P0)
        except Interrupted as error:
            assert time.monotonic() - PRESSED[0] < 1.0, time.monotonic() - PRESSED[0]
            assert (error.result.status == Status.INTERRUPTED).all()
            assert "0 of 100 fits are done" in str(error)
        else:
            raise AssertionError("was not interrupted")
    """,
    "a handler that does not raise": """
        heard = []
        handler = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
        press(after=0.05)
        result = jaxlsq.fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, T, Y, P0)
        time.sleep(0.2)
        signal.signal(signal.SIGINT, handler)
        assert result.success.all() and heard == [signal.SIGINT]
    """,
    # The last, since what it leaves in the background takes the cores for a while.
    "questions to a result": """
        result = jaxlsq.fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, T, Y, P0)
        def slow(p):
            return jax.lax.fori_loop(0, 60_000, lambda i, v: v + 1e-9 * jnp.sin(v), p[1])
        press(after=2.0)
        try:
            result.derived(slow)
        except KeyboardInterrupt as error:
            assert not isinstance(error, Interrupted)
            assert time.monotonic() - PRESSED[0] < 1.0, time.monotonic() - PRESSED[0]
        else:
            raise AssertionError("was not interrupted")
    """,
}

RUNNER = """
import json, traceback
for name, code in json.loads(sys.stdin.read()).items():
    PRESSED.clear()
    try:
        exec(code)
        print(json.dumps([name, None]), flush=True)
    except BaseException:
        print(json.dumps([name, traceback.format_exc()]), flush=True)
os._exit(0)  # what goes on in the background is not waited for
"""


@pytest.fixture(scope="module")
def outcomes():
    """How each scenario ended, None where all is well."""
    codes = {name: textwrap.dedent(code) for name, code in SCENARIOS.items()}
    command = [sys.executable, "-c", HEAD + RUNNER]
    done = subprocess.run(
        command, input=json.dumps(codes), capture_output=True, text=True, timeout=300
    )
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.long
@pytest.mark.parametrize("name", SCENARIOS)
def test_ctrl_c(outcomes, name):
    assert outcomes[name] is None, outcomes[name]


def test_presses_of_a_row_are_one():
    with Interruption() as interrupts:
        for _ in range(10):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.asked
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        interrupts.settle()


def collected(press):
    """Press while Python collects garbage."""
    seen = []

    def callback(phase, info):
        if not seen:
            seen.append(phase)
            press()

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)


def finalized(press):
    """Press while an object is finalized."""
    type("Finalized", (), {"__del__": lambda self: press()})()


def pressed_and_busy(where):
    where(lambda: signal.raise_signal(signal.SIGINT))
    for _ in range(3000):
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", [collected, finalized])
def test_a_press_where_python_ignores_exceptions_is_heard(where):
    with Interruption() as interrupts:
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            pressed_and_busy(where)
        assert interrupts.asked
        assert time.monotonic() < start + 1.0
        time.sleep(0.3)  # and no second one comes here


def in_slices(queue, rounds, **changes):
    """All of a queue's problems, so many rounds at a time, and how many calls it took."""
    pool, place, calls = begin(queue), Place.first(queue), 0
    size, width = len(queue.x0), None
    whole = None
    held = None
    while whole is None or place.issued < size or np.any(pool.problem >= 0):
        place = replace(place, rounds=np.int32(rounds))
        pool, ended, place, _ = ADVANCE(pool, queue, options(**changes), True, place)
        ended = jax.tree.map(np.asarray, ended)
        width = len(ended.status) - size
        number = np.full(size + width, -1)
        number[:size] = np.arange(size)
        if held is not None:
            number[size:] = held
        done = (ended.status > -100) & (number >= 0)
        if whole is None:
            whole = jax.tree.map(lambda v: v[:size].copy(), ended)
        for out, new in zip(jax.tree.leaves(whole), jax.tree.leaves(ended), strict=True):
            out[number[done]] = new[done]
        problem = np.asarray(pool.problem)
        held = np.where(problem >= 0, number[problem], -1)
        calls += 1
    return whole, calls


@pytest.mark.long_but("float32-1", "float64-3")
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_calls_of_a_few_rounds_give_what_one_gives(x64, rounds, dtype):
    x0, y = (v.astype(dtype) for v in problems())
    loose = {"ftol": 1e-5, "xtol": 1e-5} if dtype == np.float32 else {}
    sliced, calls = in_slices(queue_of(x0, y), rounds, dtype=dtype, **loose)
    assert calls > 10 / rounds
    assert_equal(sliced, fit(x0, y, **loose))


def test_pace():
    pace = Pace()
    assert pace.rounds == FIRST_ROUNDS
    pace.measure(32, 32 * 1e-4)
    assert pace.rounds == pytest.approx(CALL_S / 1e-4, rel=1e-3)
    pace.measure(2, 1e-3)  # a short call says little of what each round costs
    assert pace.rounds == pytest.approx(CALL_S / 1e-4, rel=1e-3)
    pace.measure(10, 10 * CALL_S)
    assert pace.rounds == 1
