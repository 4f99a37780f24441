"""Ctrl-C in the doors beside the plain fit, of which `tests.batch.test_interrupts` is."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxlsq import Interrupted, Status, fit
from jaxlsq.batch import separable, together
from jaxlsq.batch.evaluation import NormalRows
from tests.faults.doors import P0, T, decay

MANY = 2.0 * np.exp(-np.linspace(0.3, 2.0, 40)[:, None] * T) + 0.01 * np.cos(9.0 * T)


def pressed(call, number):
    """The function, with Ctrl-C twice while it works for that time."""
    calls = []

    def pressing(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return call(*arguments, **options)

    return pressing


def interrupted(**options):
    """The result that an interrupted fit leaves."""
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        fit(decay, T, MANY, P0, **options)
    assert signal.getsignal(signal.SIGINT) is handler
    return caught.value.result


def check_the_rest(result, expected):
    """Going on leads to where it would have come."""
    again = result.refit()
    assert again.success.all()
    np.testing.assert_allclose(again.x, expected.x, rtol=1e-6)
    np.testing.assert_allclose(again.cost, expected.cost, rtol=1e-6)


@pytest.mark.long_but("linear")
@pytest.mark.parametrize("options", [{}, {"linear": ["a"]}], ids=["plain", "linear"])
def test_of_a_common_fit_the_parameters_are_kept(monkeypatch, options):
    shared = {"shared": ["a"]} if not options else {"shared": ["k"]} | options
    expected = fit(decay, T, MANY, P0, **shared)
    monkeypatch.setattr(together.NormalRows, "__call__", pressed(NormalRows.__call__, 5))
    result = interrupted(**shared)
    monkeypatch.undo()
    assert np.all(result.status == Status.INTERRUPTED)
    assert np.isnan(result.cost).all()
    assert np.isfinite(result.x[:, 1]).all()
    assert not np.allclose(result.x[:, 1], 1.0)
    check_the_rest(result, expected)


@pytest.mark.long
def test_common_fits_that_have_ended_are_told(monkeypatch):
    """Of one data set each they are worked first, and of many after."""
    groups = np.concatenate([np.arange(10), np.full(30, 10)])
    shared = {"shared": {"a": groups}}
    expected = fit(decay, T, MANY, P0, **shared)
    assert expected.nfev[0] > 3
    number = int(expected.nfev[:10].max()) + 2
    monkeypatch.setattr(together.NormalRows, "__call__", pressed(NormalRows.__call__, number))
    monkeypatch.setattr("jaxlsq.batch.interruption.TELL_S", 60.0)
    result = interrupted(**shared)
    monkeypatch.undo()
    assert result.success[:10].all()
    np.testing.assert_allclose(result.cost[:10], expected.cost[:10], rtol=1e-12)
    np.testing.assert_allclose(result.cov[:10], expected.cov[:10], rtol=1e-9)
    assert np.all(result.status[10:] == Status.INTERRUPTED)
    assert np.isnan(result.cost[10:]).all()
    check_the_rest(result, expected)


def test_a_common_fit_that_is_left_before_it_is_told(monkeypatch):
    expected = fit(decay, T, MANY, P0, shared=["a"])
    monkeypatch.setattr(together, "told", pressed(together.told, 1))
    result = interrupted(shared=["a"])
    monkeypatch.undo()
    assert np.all(result.status == Status.INTERRUPTED)
    np.testing.assert_allclose(result.x, expected.x, rtol=1e-12)
    check_the_rest(result, expected)


@pytest.mark.parametrize("patience_s", [60.0, -1.0], ids=["with time", "without"])
def test_linear_parameters_of_what_is_done(monkeypatch, patience_s):
    expected = fit(decay, T, MANY, P0, linear=["a"])
    monkeypatch.setattr("jaxlsq.batch.interruption.TELL_S", patience_s)

    solve = separable.reduced

    def reduced(problem, kept):  # of which the last ten are not done
        small = solve(problem, kept)

        class Stopped(type(small)):
            def solve(self):
                result = super().solve()
                result.status[30:] = Status.INTERRUPTED
                result.x[30:] = np.nan
                raise Interrupted(result)

        return Stopped(**vars(small))

    monkeypatch.setattr(separable, "reduced", reduced)
    result = interrupted(linear=["a"])
    monkeypatch.undo()
    done = result.status != Status.INTERRUPTED
    assert done.sum() == (30 if patience_s > 0 else 0)
    np.testing.assert_array_equal(result.x[done], expected.x[done])
    np.testing.assert_array_equal(result.x[:30, 1], expected.x[:30, 1])
    assert np.isnan(result.x[30:]).all()
    check_the_rest(result, expected)


def test_a_fit_with_linear_parameters_that_is_left_at_its_end(monkeypatch):
    expected = fit(decay, T, MANY, P0, linear=["a"])
    monkeypatch.setattr(separable, "with_linear", pressed(separable.with_linear, 1))
    result = interrupted(linear=["a"])
    monkeypatch.undo()
    assert np.all(result.status == Status.INTERRUPTED)
    np.testing.assert_array_equal(result.x[:, 1], expected.x[:, 1])
    check_the_rest(result, expected)


# --- real presses, while much is to be done -----------------------------------------------

PROGRAM = """
import contextlib, io, json, os, signal, sys, tempfile, threading, time, traceback
import jax, jax.numpy as jnp, numpy as np
import xarray as xr
from jaxlsq import Interrupted, fit
from jaxlsq.cli.__main__ import main
from jaxlsq.xarray import curvefit

T = np.linspace(0.1, 4.0, 24)
RATES = np.linspace(0.5, 2.0, 4000)
Y = 2.5 * np.exp(-RATES[:, None] * T) + 0.3 + 0.01 * np.cos(9.0 * T)
P0 = {"a": 1.0, "k": 1.0, "c": 0.0}

def model(x, a, k, c):
    y = a * jnp.exp(-k * x) + c
    return jax.lax.fori_loop(0, 2000, lambda i, v: v + 1e-12 * jnp.sin(v), y)

def separable(x, a, k, c):
    y = jnp.exp(-k * x)
    return a * jax.lax.fori_loop(0, 2000, lambda i, v: v + 1e-12 * jnp.sin(v), y) + c

def through_xarray(y):
    table = xr.DataArray(y, {"t": T}, ("i", "t"))
    return curvefit(table, "t", model, p0=P0).curvefit_coefficients.values

folder = tempfile.mkdtemp()
os.chdir(folder)
with open("slow_model.py", "w") as file:
    file.write(sys.argv[1])

def command(y):
    np.savez("data.npz", t=T, y=y)
    call = "fit data.npz --x t --y y --model slow_model:model -q --out out.npz".split()
    with contextlib.redirect_stderr(Screen()):
        code = main([*call, "--p0", "a=1", "k=1", "c=0"])
    if code == 130:
        raise KeyboardInterrupt
    assert code == 0, code
    return np.load("out.npz")["x"]

some = fit(model, T, Y[:1000], P0)
few = fit(model, T, Y[:4], P0)
DOORS = {
    "shared": lambda y: fit(model, T, y, P0, shared=["c"]).x,
    "linear": lambda y: fit(separable, T, y, P0, linear=["a", "c"]).x,
    "xsigma": lambda y: fit(model, T, y, P0, xsigma=0.01, sigma=0.1).x,
    "neighbours": lambda y: fit(model, T, y.reshape(2, -1, 24), P0, starts="neighbours").x,
    "xarray": through_xarray,
    "command": command,
}
QUESTIONS = {
    "profile": lambda result: result.profile().interval,
    "bootstrap": lambda result: result.bootstrap(400 if result is some else 4, seed=1).cov,
    "contour": lambda result: result[0].contour("a", "k", size=40 if result is some else 3).rise,
}

class Screen(io.StringIO):
    # The command says at once that it has heard, and then has files to write.
    def write(self, text):
        if "interrupted" in text:
            ANSWERED.append(time.monotonic())
        return super().write(text)

def press(after):
    def run():
        time.sleep(after)
        PRESSED.append(time.monotonic())
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
    threading.Thread(target=run, daemon=True).start()

def check(name, call, little, much):
    expected = call(little)
    handler = signal.getsignal(signal.SIGINT)
    for after in (0.5, 1.0, 2.0, 4.0):
        PRESSED.clear()
        ANSWERED.clear()
        press(after)
        try:
            try:
                call(much)
            finally:
                ANSWERED.append(time.monotonic())
        except KeyboardInterrupt as error:
            took, kept = ANSWERED[0] - PRESSED[0], type(error) is Interrupted
            kept = kept or name == "command"
        else:
            raise AssertionError("was not interrupted")
        assert took < 1.0, took  # half a second, on a machine that does nothing else
        if not kept:  # its input was still being read
            try:
                time.sleep(0.2)
            except KeyboardInterrupt:
                pass
            continue
        time.sleep(0.2)  # a press that comes late would raise here
        assert signal.getsignal(signal.SIGINT) is handler
        np.testing.assert_array_equal(call(little), expected)
        if after >= 1.0:
            return
    raise AssertionError("nothing is kept")

PRESSED, ANSWERED = [], []
signal.signal(signal.SIGINT, signal.default_int_handler)
for group, little, much in ((DOORS, Y[:6], Y), (QUESTIONS, few, some)):
    for name, call in group.items():
        try:
            check(name, call, little, much)
            print(json.dumps([name, None]), flush=True)
        except BaseException:
            print(json.dumps([name, traceback.format_exc()]), flush=True)
os._exit(0)  # what goes on in the background is not waited for
"""

SLOW = """
import jax, jax.numpy as jnp

def model(x, a, k, c):
    y = a * jnp.exp(-k * x) + c
    return jax.lax.fori_loop(0, 2000, lambda i, v: v + 1e-12 * jnp.sin(v), y)
"""


@pytest.fixture(scope="module")
def outcomes():
    """How each door took it, None where all is well."""
    command = [sys.executable, "-c", PROGRAM, SLOW]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert lines, done.stderr
    return dict(map(json.loads, lines))


DOORS = (
    *("shared", "linear", "xsigma", "neighbours", "xarray", "command"),
    *("profile", "bootstrap", "contour"),
)


@pytest.mark.long
@pytest.mark.parametrize("door", DOORS)
def test_two_presses(outcomes, door):
    assert outcomes[door] is None, outcomes[door]
