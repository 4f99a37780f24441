"""``da.lsq.fit``: eager, lazy, in files."""

import dask
import dask.array
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import jaxlsq.xarray  # noqa: F401
from jaxlsq import Status, fit
from jaxlsq.tracing.cache import PROGRAMS

T = np.linspace(0.0, 4.0, 40)
RNG = np.random.default_rng(0)
K = RNG.uniform(0.5, 2.0, (12, 10))
Y = 2.5 * np.exp(-K[..., None] * T) + 0.02 * RNG.normal(size=(12, 10, 40))
P0 = {"a": 1.0, "k": 1.0}


def decay(t, a, k):
    return a * jnp.exp(-k * t)


@pytest.fixture
def stack():
    return xr.DataArray(
        Y,
        {"y": np.arange(12) * 0.5, "x": ("x", np.arange(10), {"units": "mm"}), "time": T},
        ("y", "x", "time"),
        attrs={"units": "V", "instrument": "scope"},
    )


@pytest.fixture(scope="module")
def expected():
    result = fit(decay, T, Y, P0, nan_policy="omit")
    assert len(np.unique(result.nfev)) > 1
    return result


def test_a_dataset_of_parameters(stack, expected):
    out = stack.lsq.fit(decay, "time", P0, cov=True)
    assert list(out) == ["a", "a_stderr", "k", "k_stderr", "success", "status", "cost", "redchi",
                         "nfev", "dof", "at_bound", "cov"]  # fmt: skip
    np.testing.assert_array_equal(out.k, expected.params["k"])
    np.testing.assert_array_equal(out.k_stderr, expected.stderr["k"])
    np.testing.assert_array_equal(out["cov"], expected.cov)
    np.testing.assert_array_equal(out.status, expected.status)
    assert out.status.attrs["flag_meanings"].split()[-1] in Status.__members__
    assert out.x.attrs == {"units": "mm"}
    assert not out.nfev.attrs
    assert out.attrs == {"instrument": "scope"}
    assert "time" not in out.dims


def test_dims_in_any_order(stack, expected):
    out = stack.transpose("time", "x", "y").lsq.fit(decay, "time", P0)
    np.testing.assert_array_equal(out.k.transpose("y", "x"), expected.params["k"])


def test_values_with_dims(stack):
    sigma = xr.DataArray(RNG.uniform(0.5, 2.0, (10, 40)), dims=("x", "time"))
    mask = xr.DataArray(RNG.uniform(size=(40, 12)) > 0.2, dims=("time", "y"))
    start = xr.DataArray(K.T, dims=("x", "y"))
    top = np.linspace(1.0, 3.0, 10)
    p0 = {"k": start, "a": 1.0}
    bounds = {"k": (None, 9.0), "a": (0, xr.DataArray(top, dims="x"))}
    out = stack.lsq.fit(decay, "time", p0, sigma=sigma, mask=mask, bounds=bounds)
    weights = {"sigma": sigma.values, "mask": mask.values.T[:, None]}
    bounds = {"k": (-np.inf, 9.0), "a": (0, np.broadcast_to(top, (12, 10)))}
    same = fit(decay, T, Y, {"k": K, "a": 1.0}, bounds=bounds, **weights)
    np.testing.assert_array_equal(out.a, same.params["a"])
    np.testing.assert_array_equal(out.nfev, same.nfev)
    start = xr.Dataset({"a": 1.0, "k": start})
    plain = stack.lsq.fit(decay, "time", P0)
    assert stack.lsq.fit(decay, "time", start).nfev.mean() < plain.nfev.mean()


def test_values_that_are_selected_from_the_data(stack, expected):
    first = stack.isel(time=0)
    level = float(first.min()) + 0.03
    for array in (stack, stack.chunk(y=5)):
        p0 = {"a": first, "k": 1.0}
        bounds = {"a": (first - 1.0, first + 1.0)}
        out = array.lsq.fit(decay, "time", p0, mask=first > level, bounds=bounds).compute()
        assert set(out.coords) == {"y", "x"}  # the time of the first point is not that of a fit
        few = first.values <= level
        np.testing.assert_array_equal(out.status == Status.MASKED_OUT, few)
        np.testing.assert_allclose(out.k.values[~few], expected.params["k"][~few], rtol=1e-5)
        assert 0 < few.sum() < few.size


@pytest.mark.parametrize("lazy", [False, True])
def test_errors_in_x(stack, lazy):
    """As `fit` has them: of one number, of other dims, and of several variables."""
    given = stack.chunk(y=6, x=5) if lazy else stack
    each = xr.DataArray(RNG.uniform(0.01, 0.05, (10, 12)), dims=("x", "y"))
    ways = {
        0.05: 0.05,
        "of the points": (xr.DataArray(np.linspace(0.0, 0.1, 40), dims="time"),) * 2,
        "of the data sets": (each, each.values.T[..., None]),
    }
    for name, way in ways.items():
        sigma, values = way if isinstance(way, tuple) else (way, way)
        out = given.lsq.fit(decay, "time", P0, sigma=0.02, xsigma=sigma)
        expected = fit(decay, T, Y, P0, sigma=0.02, xsigma=np.asarray(values))
        np.testing.assert_allclose(out.k, expected.params["k"], rtol=1e-9, err_msg=str(name))
        np.testing.assert_allclose(out.k_stderr, expected.stderr["k"], rtol=1e-7)
    options = {"xsigma": 0.05, "x_errors": "effective_variance"}
    out = given.lsq.fit(decay, "time", P0, sigma=0.02, **options)
    expected = fit(decay, T, Y, P0, sigma=0.02, **options)
    np.testing.assert_allclose(out.k, expected.params["k"], rtol=1e-9)


def test_errors_in_several_variables(stack):
    def scaled(x, a, k):
        return a * x[1] * jnp.exp(-k * x[0])

    gain = xr.DataArray(RNG.uniform(0.9, 1.1, 40), dims="time")
    x, sigma = ["time", gain], (0.05, xr.DataArray(np.full(10, 0.01), dims="x"))
    out = stack.lsq.fit(scaled, "time", P0, x=x, sigma=0.02, xsigma=sigma)
    both = T, gain.values
    expected = fit(scaled, both, Y, P0, sigma=0.02, xsigma=(0.05, 0.01))
    np.testing.assert_allclose(out.k, expected.params["k"], rtol=1e-9)
    with pytest.raises(ValueError, match="xsigma must be a sequence of 2"):
        stack.lsq.fit(scaled, "time", P0, x=x, xsigma=0.05)


def test_sigma_in_the_units_of_the_data(stack):
    noise = xr.DataArray(np.full(10, 0.02), dims="x")
    expected = fit(decay, T, Y, P0, sigma=0.02, absolute_sigma=True)
    for sigma in (0.02, noise):
        out = stack.lsq.fit(decay, "time", P0, sigma=sigma, absolute_sigma=True)
        np.testing.assert_allclose(out.k_stderr, expected.stderr["k"], rtol=1e-9)
    with pytest.raises(ValueError, match="pass sigma too"):
        stack.lsq.fit(decay, "time", P0, absolute_sigma=True)
    with pytest.raises(ValueError, match="sigma"):
        stack.lsq.fit(decay, "time", P0, sigma=0.02, loss="poisson")


def test_x_of_each_series(stack):
    gain = xr.DataArray(np.linspace(0.9, 1.1, 10), dims="x")
    out = stack.lsq.fit(decay, "time", P0, x=gain * stack.time)
    plain = stack.lsq.fit(decay, "time", P0)
    xr.testing.assert_allclose(out.k * gain, plain.k, rtol=1e-6)
    out = stack.lsq.fit(decay, "time", P0, x=2 * T)
    xr.testing.assert_allclose(out.k * 2, plain.k, rtol=1e-6)


def test_images(stack):
    def spot(xy, a, cx, cy):
        x, y = xy
        return a * jnp.exp(-((x - cx) ** 2) / 4 - (y - cy) ** 2)

    centers = np.linspace(3.0, 6.0, 7)
    x, y = stack.x, stack.y
    images = spot((x.values[None, None], y.values[:, None]), 2.0, centers[:, None, None], 3.0)
    images = xr.DataArray(np.asarray(images), {"x": x, "y": y}, ("frame", "y", "x"))
    out = images.lsq.fit(spot, ("x", "y"), {"a": 1.0, "cx": 4.0, "cy": 2.5})
    np.testing.assert_allclose(out.cx, centers, rtol=1e-6)
    np.testing.assert_allclose(out.cy, 3.0, rtol=1e-6)


def test_one_series(stack, expected):
    out = stack[3, 4].lsq.fit(decay, "time", P0)
    assert out.k.dims == ()
    assert float(out.k) == pytest.approx(expected.params["k"][3, 4], rel=1e-12)


def test_missing_points(stack):
    stack[0, 0, 3] = np.nan
    stack[0, 1] = np.nan
    out = stack.lsq.fit(decay, "time", P0)
    assert out.dof[0, 0] == 37
    assert out.status[0, 1] == Status.MASKED_OUT
    assert np.isnan(out.k[0, 1])
    assert np.isnan(out.redchi[0, 1])
    np.testing.assert_array_equal(out.success, out.status != Status.MASKED_OUT)
    out = stack.lsq.fit(decay, "time", P0, skipna=False)
    assert (out.status[0, :2] == Status.NONFINITE_DATA).all()
    assert out.success.dtype == bool
    assert int((~out.success).sum()) == 2


def test_units_of_a_model_that_says_them(stack):
    class Decay:
        units: dict[str, str]

        def __init__(self):
            self.units = {"a": "y", "k": "1/x"}

        def __call__(self, t, a, k):
            return decay(t, a, k)

    stack.time.attrs["units"] = "ms"
    out = stack.lsq.fit(Decay(), "time", P0)
    assert (out.a.attrs["units"], out.k_stderr.attrs["units"]) == ("V", "1/ms")


def test_parameters_that_are_called_like_a_dim(stack):
    out = stack.lsq.fit(lambda t, x, cost: x * jnp.exp(-cost * t), "time", [1.0, 1.0])
    assert list(out)[:4] == ["x_param", "x_param_stderr", "cost_param", "cost_param_stderr"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"dim": "t"}, ValueError, r"dim has 't', and the array's dims are"),
        ({"dim": ()}, ValueError, "dim names no dim"),
        ({"p0": {"a": 1.0, "q": 1.0}}, TypeError, "names .'q'."),
        ({"p0": {"a": xr.DataArray([1.0], dims="z"), "k": 1.0}}, ValueError, "'z'"),
        ({"sigma": xr.DataArray([1.0], dims="z")}, ValueError, "sigma has the dims"),
        ({"xsigma": xr.DataArray([1.0], dims="z")}, ValueError, "xsigma has the dims"),
        ({"bounds": {"a": xr.DataArray([1.0], dims="z")}}, ValueError, "must be a pair"),
        ({"bounds": {"a": (xr.DataArray([1.0], dims="z"), 2)}}, ValueError, "bounds of 'a'"),
        ({"x": np.ones(3)}, ValueError, r"have the shape \(40,\) of 'time'"),
        ({"ftoll": 1.0}, TypeError, "ftoll"),
    ],
)
def test_improper_input_is_said_at_once(stack, arguments, error, words):
    lazy = stack.chunk(y=3)
    for array in (stack, lazy):
        given = {"model": decay, "dim": "time", "p0": P0} | arguments
        with pytest.raises(error, match=words):
            array.lsq.fit(**given)


# --- Dask -------------------------------------------------------------------------------


def test_lazy_until_it_is_computed(stack):
    blocks = []

    def read(block):
        blocks.append(block.shape)
        return block

    data = dask.array.from_array(Y, chunks=(5, 4, 40)).map_blocks(read, meta=Y[:0])
    lazy = stack.copy(data=data)
    out = lazy.lsq.fit(decay, "time", P0, cov=True)
    assert not blocks
    assert out.k.chunks == ((5, 5, 2), (4, 4, 2))
    eager = stack.lsq.fit(decay, "time", P0, cov=True)
    done = out.compute(scheduler="threads")
    assert len(blocks) == 9  # each once, for all variables
    for name in eager:
        np.testing.assert_allclose(done[name], eager[name], rtol=1e-9)
        assert done[name].dtype == eager[name].dtype == out[name].dtype
    np.testing.assert_array_equal(done.nfev, eager.nfev)


def test_edge_chunks_compile_nothing(stack):
    lazy = stack.chunk(y=5, x=4)
    lazy.lsq.fit(decay, "time", P0).compute(scheduler="synchronous")
    before = len(PROGRAMS)
    other = stack.isel(y=slice(0, 7)).chunk(y=3, x=7)
    other.lsq.fit(decay, "time", P0).compute(scheduler="synchronous")
    assert len(PROGRAMS) == before


def test_lazy_values_with_dims(stack):
    start = xr.DataArray(K, dims=("y", "x"))
    noise = xr.DataArray(RNG.uniform(0.5, 2.0, (12, 40)), dims=("y", "time"))
    eager = stack.lsq.fit(decay, "time", {"a": 1.0, "k": start}, sigma=noise)
    lazy = stack.chunk(y=5).lsq.fit(
        decay, "time", {"a": 1.0, "k": start.chunk(x=3)}, sigma=noise.chunk(y=2)
    )
    xr.testing.assert_allclose(lazy.compute(scheduler="synchronous"), eager, rtol=1e-9)


def test_a_chunked_dim_of_the_points(stack):
    with pytest.raises(ValueError, match=r"time.*multiple chunks"):
        stack.chunk(time=10).lsq.fit(decay, "time", P0)


def test_results_go_to_files_as_they_are_computed(stack, tmp_path):
    out = stack.chunk(y=5).lsq.fit(decay, "time", P0)
    out.to_zarr(tmp_path / "maps.zarr")
    out.to_netcdf(tmp_path / "maps.nc", engine="h5netcdf")
    eager = stack.lsq.fit(decay, "time", P0)
    for back in (xr.open_zarr(tmp_path / "maps.zarr"), xr.open_dataset(tmp_path / "maps.nc")):
        xr.testing.assert_allclose(back.compute(), eager, rtol=1e-9)
        assert back.status.attrs["flag_meanings"] == eager.status.attrs["flag_meanings"]


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_cluster(stack, processes):
    from dask.distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        LocalCluster(processes=processes, **options) as cluster,
        Client(cluster),
    ):
        out = stack.chunk(y=3, x=5).lsq.fit(lambda t, a, k: a * jnp.exp(-k * t), "time", P0)
        done = out.compute()
    np.testing.assert_allclose(done.k, stack.lsq.fit(decay, "time", P0).k, rtol=1e-9)


def test_an_array_without_data_sets():
    empty = xr.DataArray(np.empty((0, 30)), {"time": np.arange(30.0)}, ("well", "time"))
    found = empty.lsq.fit(lambda t, a, k: a * jnp.exp(-k * t), "time", p0={"a": 1.0, "k": 1.0})
    assert found["a"].dims == ("well",)
    assert found["a"].shape == (0,)
