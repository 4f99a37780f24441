"""joblib and cloudpickle: models and results that go to other threads and processes."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import FitResult, fit

cloudpickle = pytest.importorskip("cloudpickle")
joblib = pytest.importorskip("joblib")

pytestmark = pytest.mark.ecosystem
T = np.linspace(0.0, 4.0, 40)
RNG = np.random.default_rng(4)
DECAYS = 2.0 * np.exp(-RNG.uniform(0.5, 2.0, (200, 1)) * T) + 0.02 * RNG.normal(size=(200, T.size))
DECAYS[7, 3] = np.nan
P0 = {"a": 1.0, "k": 1.0}


def model_of(unit):
    """A model that no name leads to, and that closes over an array."""
    unit = np.asarray(unit)
    return lambda t, a, k: a * jnp.exp(-k * t / unit)


@pytest.fixture(scope="module")
def expected():
    result = fit(model_of(1.5), T, DECAYS, P0)
    plain = fit(lambda t, a, k: a * jnp.exp(-k * t), T, DECAYS, P0)
    good = result.success
    assert good.sum() == 199
    np.testing.assert_allclose(result.params["k"][good], 1.5 * plain.params["k"][good], rtol=1e-6)
    return result


def same(one, other):
    for name in ("x", "status", "nfev", "cost"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-12)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_joblib(expected, backend):
    model = model_of(1.5)
    parts = joblib.Parallel(n_jobs=2, backend=backend)(
        joblib.delayed(fit)(model, T, DECAYS[first : first + 50], P0) for first in range(0, 200, 50)
    )
    same(FitResult.concat(parts), expected)


def test_a_result_through_cloudpickle(expected):
    back = cloudpickle.loads(cloudpickle.dumps(expected))
    same(back, expected)
    assert back.names == ("a", "k")
    assert back.message(7) == expected.message(7)


def test_a_fit_in_a_process_that_knows_nothing(expected, tmp_path):
    model = model_of(1.5)
    code = (
        "import sys, cloudpickle; task = cloudpickle.loads(open(sys.argv[1], 'rb').read()); "
        "open(sys.argv[2], 'wb').write(cloudpickle.dumps(task()))"
    )
    # By its name this module would be imported there; what is sent has to do without.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        task = cloudpickle.dumps(lambda: fit(model, T, DECAYS, P0))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    (tmp_path / "task").write_bytes(task)
    files = [str(tmp_path / "task"), str(tmp_path / "result")]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    same(cloudpickle.loads((tmp_path / "result").read_bytes()), expected)
