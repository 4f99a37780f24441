"""``starts='neighbours'``: images whose own starts lead to wrong minima."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Distribution, Interrupted, Status, fit, least_squares_batch, using
from jaxlsq.batch import neighbours
from tests.decays import P0, T, Y, decay

X = np.linspace(0, 6, 60)
START = (1.0, 3.0, 0.0)
SIZE = 32


def wave(x, a, w, c):
    return a * jnp.sin(w * x) + c


def truth(size=SIZE):
    """Amplitudes, frequencies and offsets that change slowly over an image, (size, size, 3)."""
    v, u = np.mgrid[:size, :size] / size
    frequency = 3.0 + 1.0 * np.sin(2.2 * u + 1.3 * v) + 0.4 * v
    return np.stack([1 + 0.5 * np.cos(3 * u), frequency, 0.3 * v], axis=-1)


def image(params, noise=0.05, seed=0):
    a, w, c = np.moveaxis(params, -1, 0)[..., None]
    clean = a * np.sin(w * X) + c
    return clean + noise * np.random.default_rng(seed).normal(size=clean.shape)


PARAMS = truth()
IMAGE = image(PARAMS)
SMALL = IMAGE[:8, 8:20]


def wrong(result, right):
    """The part of the fits that did not reach the cost of those from the truth."""
    return np.mean(~(result.cost <= right.cost * (1 + 1e-4)))


@pytest.fixture(scope="module")
def right():
    return fit(wave, X, IMAGE, PARAMS)


@pytest.fixture(scope="module")
def result():
    return fit(wave, X, IMAGE, START, starts="neighbours")


def test_wrong_minima_of_an_image(result, right):
    plain = fit(wave, X, IMAGE, START)
    assert wrong(plain, right) > 0.5
    assert np.all(plain.success)  # though the minimum is another
    assert wrong(result, right) == 0
    np.testing.assert_allclose(result.x, right.x, rtol=1e-5, atol=1e-6)
    assert np.all(result.success)
    assert result.shape == (SIZE, SIZE)
    # What is reported of the tries: all evaluations, and how many of them ended there.
    assert np.all(result.nfev >= plain.nfev)
    again = result.nfev > plain.nfev
    assert np.all(again[plain.cost > 1.01 * right.cost])
    assert np.all(result.agreed >= 1)
    assert np.all(result.agreed[~again] == 1)
    assert np.max(result.agreed) > 1
    assert result.nfev.mean() < 3 * plain.nfev.mean()


def test_what_it_costs(monkeypatch):
    promised, tried = [], []
    values_at, again = neighbours.values_at, neighbours._tried
    monkeypatch.setattr(
        neighbours,
        "values_at",
        lambda pr, p, *how: promised.append(len(p)) or values_at(pr, p, *how),
    )
    monkeypatch.setattr(
        neighbours, "_tried", lambda r, i, x: tried.append(len(i)) or again(r, i, x)
    )
    good = fit(wave, X, IMAGE, PARAMS, starts="neighbours")
    # Where all is well each pair of neighbours is looked at once: four, and a third on the grids.
    assert sum(promised) < 5.5 * good.status.size
    assert sum(tried) < 0.15 * good.status.size
    promised.clear()
    fit(wave, X, IMAGE, START, starts="neighbours")
    assert sum(promised) < 10 * good.status.size


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exact_data_are_not_tried_again_and_again(dtype, monkeypatch):
    tried, again = [], neighbours._tried
    monkeypatch.setattr(
        neighbours, "_tried", lambda r, i, x: tried.append(len(i)) or again(r, i, x)
    )
    exact = image(PARAMS, 0.0).astype(dtype)
    result = fit(wave, X.astype(dtype), exact, START, starts="neighbours")
    np.testing.assert_allclose(result.x, PARAMS, rtol=1e-3, atol=1e-5)
    assert result.success.all()
    assert len(tried) < 30
    assert sum(tried) < 2 * result.status.size


@pytest.mark.parametrize("shape", [(256,), (16, 16), (8, 8, 4), (1, 64), (1,)])
def test_batches_of_one_to_three_axes(shape):
    params = truth(16).reshape(-1, 3)[: np.prod(shape)].reshape(*shape, 3)
    if len(shape) == 3:
        params = np.broadcast_to(truth(8)[:, :, None], (8, 8, 4, 3))
    data = image(params)
    right = fit(wave, X, data, params)
    result = fit(wave, X, data, START, starts="neighbours")
    assert result.shape == shape
    if np.prod(shape) > 1:
        assert wrong(result, right) < wrong(fit(wave, X, data, START), right)
        assert wrong(result, right) < 0.01
    # One fit has no neighbours, and is what it is without.
    else:
        np.testing.assert_array_equal(result.x, fit(wave, X, data, START).x)


@pytest.mark.long
def test_two_peaks():
    def peaks(x, a, c, b, d, w):
        return a * jnp.exp(-jnp.square((x - c) / w)) + b * jnp.exp(-jnp.square((x - d) / w))

    v, u = np.mgrid[:24, :24] / 24
    params = np.stack([2 + u, 2 + 1.5 * v, 1 + v, 4.5 + 2 * u, 0.4 + 0 * u], axis=-1)
    x, rng = np.linspace(0, 10, 80), np.random.default_rng(1)
    clean = np.asarray(peaks(x, *np.moveaxis(params, -1, 0)[..., None]))
    data = clean + 0.05 * rng.normal(size=clean.shape)
    # Starts that are off by so much lead a third of the fits astray, here and there.
    p0 = params + rng.normal(size=params.shape) * [0.3, 0.6, 0.3, 0.9, 0.1]
    right = fit(peaks, x, data, params)
    assert wrong(fit(peaks, x, data, p0), right) > 0.2
    assert wrong(fit(peaks, x, data, p0, starts="neighbours"), right) < 0.01


def test_fits_without_data_neither_give_nor_take():
    data = SMALL.copy()
    data[3, 4, 7] = np.nan
    mask = np.ones(data.shape, bool)
    mask[5] = False  # a whole row, over which nothing goes on
    mask[6, 2, 2:] = False  # fewer points than parameters
    result = fit(wave, X, data, START, mask=mask, starts="neighbours")
    plain = fit(wave, X, data, START, mask=mask)
    assert result.status[3, 4] == Status.NONFINITE_DATA
    assert np.all(result.status[5] == Status.MASKED_OUT)
    assert result.status[6, 2] == Status.TOO_FEW_POINTS
    for place in ((3, 4), (5, 1), (6, 2)):
        np.testing.assert_array_equal(result.x[place], plain.x[place])
        assert result.nfev[place] == plain.nfev[place]
    right = fit(wave, X, data, PARAMS[:8, 8:20], mask=mask)
    good = right.success
    assert np.all(result.cost[good] <= right.cost[good] * (1 + 1e-4))


def test_bounds_and_fixed_are_each_pixels_own():
    right = PARAMS[:8, 8:20]
    lower, upper = right[..., 1] - 0.05, right[..., 1] + 0.05
    upper[2, 2] = lower[2, 2] = 2.0  # held far away
    fixed = np.zeros((8, 12), bool)
    fixed[4:] = True
    p0 = {"a": 1.0, "w": np.clip(3.0, lower, upper), "c": np.where(fixed, right[..., 2], 0.0)}
    how = {"bounds": {"w": (lower, upper)}, "fixed": {"c": fixed}}
    result = fit(wave, X, SMALL, p0, **how, starts="neighbours")
    assert isinstance(result.params, dict)
    assert np.all((result.params["w"] >= lower) & (result.params["w"] <= upper))
    assert result.params["w"][2, 2] == 2.0
    np.testing.assert_array_equal(result.params["c"][4:], right[4:, :, 2])
    np.testing.assert_array_equal(result.fixed[..., 2], fixed)
    assert np.all(result.cost <= fit(wave, X, SMALL, p0, **how).cost * (1 + 1e-9))


def test_fits_that_failed_are_found_by_neighbours():
    # At a frequency of zero there is no slope to leave it by: those fits end singular or astray.
    p0 = np.array(PARAMS[:8, 8:20])
    p0[2:4, 3:9] = [0.0, 0.0, 0.0]
    plain = fit(wave, X, SMALL, p0)
    assert not np.all(plain.success)
    result = fit(wave, X, SMALL, p0, starts="neighbours")
    assert np.all(result.success)
    right = fit(wave, X, SMALL, PARAMS[:8, 8:20])
    np.testing.assert_allclose(result.cost, right.cost, rtol=1e-6)


def test_float32():
    narrow = [X.astype(np.float32), IMAGE.astype(np.float32)]
    right = fit(wave, *narrow, PARAMS)
    assert right.x.dtype == np.float32
    result = fit(wave, *narrow, START, starts="neighbours")
    assert wrong(result, right) < 0.001


@pytest.mark.long
def test_the_pool_and_a_model_of_python():
    expected = fit(wave, X, SMALL, PARAMS[:8, 8:20])
    with using("xla"):
        pool = fit(wave, X, SMALL, START, starts="neighbours")
    assert pool.engine.startswith("XLA")
    assert wrong(pool, expected) == 0

    def python(x, a, w, c):
        return a * np.sin(w * np.array([float(v) for v in x])) + c

    result = fit(python, X, SMALL[:4, :4], START, starts="neighbours")
    assert result.engine.startswith("Python")
    assert wrong(result, expected[:4, :4]) == 0


@pytest.mark.long
def test_losses_and_counts():
    params = truth(12) * [0.6, 1, 0] + [0, 0, 2.0]
    counts = np.random.default_rng(3).poisson(20 * np.exp(0.8 * image(params, 0) - 2)).astype(float)

    def rate(x, a, w, c):
        return jnp.exp(0.8 * (a * jnp.sin(w * x) + c) + 1.0)

    right = fit(rate, X, counts, params, loss="poisson")
    result = fit(rate, X, counts, (0.6, 3.0, 2.0), loss="poisson", starts="neighbours")
    assert wrong(result, right) < 0.01
    data = SMALL.copy()
    data[..., ::9] += 2.0
    how = {"loss": "soft_l1", "f_scale": 0.1}
    right = fit(wave, X, data, PARAMS[:8, 8:20], **how)
    assert wrong(fit(wave, X, data, START, starts="neighbours", **how), right) < 0.02


def test_linear_parameters(right):
    how = {"linear": ["a", "c"]}
    assert wrong(fit(wave, X, IMAGE, START, **how), right) > 0.2
    result = fit(wave, X, IMAGE, START, **how, starts="neighbours")
    assert wrong(result, right) == 0
    np.testing.assert_allclose(result.x, right.x, rtol=1e-4, atol=1e-5)


def test_general_functions():
    def residual(p, y):
        return wave(X, p["a"], p["w"], p["c"]) - y

    flat = PARAMS[10]
    right = least_squares_batch(residual, dict(zip("awc", flat.T, strict=True)), IMAGE[10])
    x0 = dict(zip("awc", START, strict=True))
    result = least_squares_batch(residual, x0, IMAGE[10], starts="neighbours")
    assert wrong(result, right) < 0.05


def test_the_result_is_like_another(result):
    again = result.refit()
    np.testing.assert_array_equal(again.x, result.x)
    some = result.refit(where=np.eye(SIZE, dtype=bool), p0=START)
    np.testing.assert_allclose(some.cost, result.cost, rtol=1e-9)
    assert result[3].shape == (SIZE,)
    assert result.stderr.shape == (SIZE, SIZE, 3)


def test_ctrl_c_keeps_what_is_better(monkeypatch):
    calls, again = [], neighbours._tried

    def tried(*how):
        calls.append(how)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return again(*how)

    monkeypatch.setattr(neighbours, "_tried", tried)
    with pytest.raises(Interrupted) as caught:
        fit(wave, X, IMAGE, START, starts="neighbours")
    found = caught.value.result
    assert np.all(found.success)
    assert np.mean(found.cost) < np.mean(fit(wave, X, IMAGE, START).cost)


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ydata is one data set"):
        fit(decay, T, Y[0], P0, starts="neighbours")
    with pytest.raises(ValueError, match="ydata is a list of arrays"):
        fit(decay, [T, T[:9]], [Y[0], Y[1][:9]], P0, starts="neighbours")
    for out in (tmp_path / "out.zarr", Distribution()):
        with pytest.raises(ValueError, match="needs the whole image, and out= cuts it"):
            fit(decay, T, Y, P0, starts="neighbours", out=out)
    with pytest.raises(ValueError, match="starts is for fits apart"):
        fit(decay, T, Y, P0, starts="neighbours", shared="k")
    with pytest.raises(ValueError, match="is of fit, whose fits lie beside each other"):
        fit(decay, T, Y, P0).refit(starts="neighbours")


def test_chunks_of_dask():
    xr = pytest.importorskip("xarray")
    pytest.importorskip("dask")
    import jaxlsq.xarray  # noqa: F401

    data = xr.DataArray(SMALL, {"t": X}, ("v", "u", "t"))
    how = {"p0": dict(zip("awc", START, strict=True)), "starts": "neighbours"}
    whole = data.lsq.fit(wave, "t", **how)
    one = data.chunk({"v": -1, "u": -1}).lsq.fit(wave, "t", **how).compute()
    np.testing.assert_allclose(one.cost, whole.cost, rtol=1e-9)
    np.testing.assert_allclose(whole.w, PARAMS[:8, 8:20, 1], atol=0.05)
    with pytest.raises(ValueError, match=r"needs neighbours in one chunk, .* along 'u'"):
        data.chunk({"u": 3}).lsq.fit(wave, "t", **how)
