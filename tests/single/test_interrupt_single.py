"""Ctrl-C in single fits: real signals, in a process of its own."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from jaxlsq import curve_fit, leastsq

t = np.linspace(0.1, 4.0, 400)

def slow(p, x):
    # Never settles, and takes milliseconds.
    def step(i, s):
        return jnp.sin(s + p[0]) * jnp.cos(s * p[1])
    return jax.lax.fori_loop(0, {steps}, step, x * p[1])

def by_leastsq(maxfev):
    return leastsq(lambda p: slow(p, t) - 1.0, [1.0, 1.3], ftol=0, xtol=0, maxfev=maxfev)

def by_curve_fit(maxfev):
    model = lambda x, a, k: slow((a, k), x)
    return curve_fit(model, t, np.ones(400), [1.0, 1.3], bounds=(-1e9, 1e9), ftol=0, xtol=0,
                     max_nfev=maxfev)

import warnings
warnings.simplefilter("ignore")
def numpy_model(maxfev):
    return leastsq(lambda p: np.abs(t * p[0]) + np.random.rand(400), [1.0], ftol=0, xtol=0,
                   maxfev=maxfev)

run = {door}
try:
    run(2)
except RuntimeError:
    pass
print("ready", flush=True)
started = time.perf_counter()
try:
    while True:
        try:
            run(10**9)
        except RuntimeError:
            pass
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.long_but("by_leastsq-1000", "numpy_model-20")
@pytest.mark.parametrize("steps", [20, 1000])
@pytest.mark.parametrize("door", ["by_leastsq", "by_curve_fit", "numpy_model"])
def test_a_compiled_fit_answers_an_interrupt(door, steps):
    code = PROGRAM.format(door=door, steps=steps)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGINT)
        start = time.perf_counter()
        assert process.stdout.readline() == "stopped\n"
        waited = time.perf_counter() - start
        process.wait(timeout=20)
        assert waited < 1.0  # half a second, on a machine that does nothing else
        assert time.perf_counter() - start < 10
    finally:
        process.kill()
