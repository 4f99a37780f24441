"""Child processes that are forked: a fit raises at once where it would hang, and else works."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

PROGRAM = """
import os, warnings
warnings.simplefilter("ignore")
import jax, jax.numpy as jnp, numpy as np
from jaxlsq import curve_fit, fit, least_squares, least_squares_batch, leastsq

t = np.linspace(0.1, 4.0, 30)
y = 2.5 * np.exp(-1.3 * t)
model = lambda t, a, k: a * jnp.exp(-k * t)
doors = [
    lambda: leastsq(lambda p: model(t, *p) - y, [1.0, 1.0]),
    lambda: leastsq(lambda p: p[0] * np.exp(-p[1] * t) - y, [1.0, 1.0]),
    lambda: curve_fit(model, t, y, [1.0, 1.0]),
    lambda: curve_fit(model, t, y, [1.0, 1.0], bounds=(0, 9)),
    lambda: fit(model, t, y[None], [1.0, 1.0]),
    lambda: least_squares_batch(lambda p, y: model(t, *p) - y, [1.0, 1.0], y[None]),
]
{before}
child = os.fork()
if child == 0:
    for k, door in enumerate(doors[:{doors}]):
        try:
            door()
            print(k, "fitted", flush=True)
        except RuntimeError as error:
            print(k, "spawn" in str(error), flush=True)
    os._exit(0)
os.waitpid(child, 0)
doors[0]()
print("parent", flush=True)
"""


def output_of(before, doors):
    code = PROGRAM.format(before=before, doors=doors)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.long_but("doors[0]()")
@pytest.mark.parametrize("before", ["doors[0]()", "jnp.ones(3)", "doors[1]()"])
def test_a_forked_child_is_told_to_spawn(before):
    lines = output_of(before, 6).split("\n")
    assert lines[:6] == [f"{k} True" for k in range(6)]
    assert lines[6] == "parent"


def test_a_child_that_is_forked_before_works():
    assert output_of("", 1).split("\n")[:2] == ["0 fitted", "parent"]


LATE = """
import os, warnings
warnings.simplefilter("ignore")
import jax.numpy as jnp, jaxlsq
jnp.ones(3)
if os.fork() == 0:
    try:
        jaxlsq.leastsq(lambda p: p - 1.0, [0.0])
    except RuntimeError as error:
        print("spawn" in str(error), flush=True)
    os._exit(0)
os.wait()
"""


def test_a_child_that_is_the_first_to_use_the_library_is_told_too():
    """The parent has imported it and no more: its names are read in the child."""
    command = [sys.executable, "-c", LATE]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "True\n"
