"""Blocks of results: each written once, when the last of its fits has ended."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq
import jaxlsq.batch.group
from jaxlsq import Status, fit
from jaxlsq.batch.sinks import Arrays

X = np.linspace(0.0, 4.0, 20)
BLOCK = 256


def model(x, a, k):
    return a * jnp.exp(-k * x)


@pytest.fixture(scope="module")
def data():
    """Fits of which some take much longer than others, and some fail."""
    rng = np.random.default_rng(5)
    k = rng.uniform(0.3, 3.0, 3000)
    k[::37] = 60.0
    y = 2.0 * np.exp(-k[:, None] * X) + rng.normal(0.0, 0.01, (3000, X.size))
    y[5::101, 3] = np.nan
    return y


@pytest.fixture
def written(monkeypatch):
    """What was written to the sinks of a run."""
    calls = []

    class Recording(Arrays):
        def write(self, first, last, rows):
            calls.append((first, last, rows.ended.status.copy(), rows.ended.x.copy()))
            super().write(first, last, rows)

    monkeypatch.setattr(jaxlsq.batch.group, "Arrays", Recording)
    monkeypatch.setattr(jaxlsq.batch.group, "BLOCK_PROBLEMS", BLOCK)
    return calls


@pytest.mark.parametrize("starts", [1, 2])
@pytest.mark.parametrize("workers", [1, 3])
def test_each_block_is_written_once_when_it_is_done(data, written, workers, starts):
    result = fit(model, X, data, [1.0, 1.0], workers=workers, starts=starts)
    spans = sorted((first, last) for first, last, _, _ in written)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(data)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    for first, last, status, _ in written:
        assert status.shape == ((last - first) * starts,)
        assert not np.any((status == Status.INTERRUPTED) | (status == Status.RUNNING))
    assert len(np.unique(result.nfev)) > 5
    if starts == 1:
        for first, last, status, x in written:
            np.testing.assert_array_equal(status, result.status[first:last])
            np.testing.assert_array_equal(x, result.x[first:last])


def test_the_number_of_workers_changes_no_bit(data):
    one, three = (fit(model, X, data, [1.0, 1.0], workers=k) for k in (1, 3))
    np.testing.assert_array_equal(one.x, three.x)
    np.testing.assert_array_equal(one.nfev, three.nfev)


def test_an_interruption_writes_what_was_begun(data, written):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(jaxlsq.Interrupted) as caught:
        fit(model, X, np.tile(data, (40, 1)), [1.0, 1.0], workers=1, progress=stop)
    result, some = caught.value.result, 0
    for first, last, status, x in written:
        np.testing.assert_array_equal(status, result.status[first:last])
        np.testing.assert_array_equal(x, result.x[first:last])
        some += np.count_nonzero(status != Status.INTERRUPTED)
    assert some == np.count_nonzero(result.status != Status.INTERRUPTED) > 0
    assert np.any(result.status == Status.INTERRUPTED)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two"])
def test_improper_workers(workers):
    with pytest.raises(ValueError, match="workers must be at least 1 or None"):
        fit(model, X, np.ones((2, X.size)), [1.0, 1.0], workers=workers)
