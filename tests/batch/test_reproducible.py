"""The same to the bit: in another process, with other workers, orders, sizes and neighbours."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import StoredResult, curve_fit, fit, least_squares_batch, leastsq, using

T = np.linspace(0.0, 4.0, 24)
RNG = np.random.default_rng(7)
Y = 2.5 * np.exp(-RNG.uniform(0.3, 3.0, (300, 1)) * T) + 0.05 * RNG.normal(size=(300, T.size))
Y[5, 3] = np.nan
P0 = {"a": 1.0, "k": 1.0}
FIELDS = ("x", "cost", "status", "nfev", "njev", "nit")
# Of each fit alone; with `shared` all data sets are one fit.
OPTIONS = {
    "plain": {},
    "bounds": {"bounds": (0.0, [2.55, 2.5]), "loss": "soft_l1", "f_scale": 0.1},
    "linear": {"linear": ["a"]},
    "xsigma": {"xsigma": 0.01, "sigma": 0.05},
}
IDS = pytest.mark.long_but("plain")


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def fitted(y=Y, **options):
    return fit(decay, T, y, P0, **options)


def same(one, other):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-12)  # made for all at once


@IDS
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_compiled_lanes(options, tmp_path):
    expected = fitted(**options)
    assert expected.engine == "compiled lanes"
    assert len(np.unique(expected.nfev)) > 2
    for workers in (1, 2, 3):
        same(fitted(workers=workers, **options), expected)
    same(fitted(progress=lambda done, total: None, **options), expected)
    order = np.random.default_rng(1).permutation(len(Y))
    same(fitted(Y[order], **options), expected[order])
    for part in (slice(0, 7), slice(100, 101), slice(5, 300, 13)):
        same(fitted(Y[part], **options), expected[part])
    stored = fitted(out=tmp_path / "o", **options)
    assert isinstance(stored, StoredResult)
    for name in ("x", "cost", "status", "nfev"):
        np.testing.assert_array_equal(getattr(stored.load(), name), getattr(expected, name))


@pytest.mark.long
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_xla_with_the_same_shape_of_the_batch(options):
    with using("xla"):
        expected = fitted(**options)
        same(fitted(**options), expected)
        same(fitted(progress=lambda done, total: None, **options), expected)
        order = np.random.default_rng(1).permutation(len(Y))
        same(fitted(Y[order], **options), expected[order])
        others = Y.copy()
        others[::2] *= 3.0
        same(fitted(others, **options)[1::2], expected[1::2])


PROGRAM = """
import sys
import numpy as np
from tests.batch.test_reproducible import everything
np.savez(sys.argv[1], **everything())
"""


def everything():
    """What every door gives, by name."""
    found = {}

    def keep(name, result):
        found.update({f"{name} {field}": getattr(result, field) for field in FIELDS})

    for name, options in OPTIONS.items():
        keep(name, fitted(**options))
    shared = fitted(Y[6:40], shared=["a"])
    keep("shared", shared)
    keep("batch", least_squares_batch(lambda p, y: decay(T, p[0], p[1]) - y, [1.0, 1.0], Y))
    for k, value in enumerate(curve_fit(decay, T, Y[0], [1.0, 1.0])):
        found[f"curve_fit {k}"] = value
    found["leastsq"] = leastsq(lambda p: decay(T, *p) - Y[0], [1.0, 1.0])[0]
    result = fitted(Y[6:20])
    found["profile"] = result.interval(method="profile")
    found["bootstrap"] = np.stack(list(result.bootstrap(20, seed=3).stderr.values()))
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.long
@pytest.mark.parametrize("engine", ["lanes", "xla"])
def test_every_door_in_two_processes(engine, tmp_path):
    """Of which one has four devices, if they are compiled lanes'."""
    found = []
    for number, devices in enumerate((1, 4 if engine == "lanes" else 1)):
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = os.environ | {"JAXLSQ_ENGINE": engine, "XLA_FLAGS": flags}
        out = str(tmp_path / f"{number}.npz")
        command = [sys.executable, "-c", PROGRAM, out]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        found.append(np.load(out))
    one, other = found
    assert set(one.files) == set(other.files)
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
