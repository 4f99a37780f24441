"""Models that misbehave, threads, warnings and files, in every door."""

import pickle
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, least_squares, least_squares_batch, leastsq, using

T = np.linspace(0.0, 3.0, 16)
RATES = np.array([0.5, 0.9, 1.4])
Y = 2.0 * np.exp(-RATES[:, None] * T) + 0.01 * np.cos(9.0 * T)
P0 = {"a": 1.0, "k": 1.0}


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def of_fit(**options):
    return lambda model, y: fit(model, T, y, P0, **options).x


def mapped(model, y):
    t = T.astype(np.float32)

    def one(y):
        return least_squares(lambda p: model(t, p[0], p[1]) - y, jnp.ones(2)).x

    return jax.jit(jax.vmap(one))(y.astype(np.float32))


DOORS = {
    "leastsq": lambda model, y: leastsq(lambda p: model(T, *p) - y[0], [1.0, 1.0])[0],
    "curve_fit": lambda model, y: curve_fit(model, T, y[0], [1.0, 1.0])[0],
    "bounds": lambda model, y: curve_fit(model, T, y[0], [1.0, 1.0], bounds=(0, 9))[0],
    "batch": lambda model, y: (
        least_squares_batch(lambda p, y: model(T, p[0], p[1]) - y, [1.0, 1.0], y).x
    ),
    "mapped": mapped,
    "fit": of_fit(),
    "shared": of_fit(shared=["a"]),
    "linear": of_fit(linear=["a"]),
    "xsigma": of_fit(xsigma=0.01, sigma=0.1),
}


class Mine(Exception):
    """An error of the user's."""


def raising(t, a, k):
    raise Mine("of the user")


def empty(t, a, k):
    pass


def short(t, a, k):
    return a * jnp.exp(-k * t[:3])


def raised(t, a, k):
    return (a * jnp.exp(-k * t))[None]


IMPROPER = {
    raising: (Mine, "of the user"),
    empty: (TypeError, "None"),
    short: ((TypeError, ValueError), r"\(3,\)"),
    raised: (ValueError, r"\(1, 16\)"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("model", IMPROPER, ids=lambda model: model.__name__)
def test_models_that_give_nothing_proper_raise(model, door):
    error, words = IMPROPER[model]
    with pytest.raises(error, match=words) as caught:
        DOORS[door](model, Y)
    assert str(caught.value).count("\n") < 3


def with_complex_values(t, a, k):
    return a * jnp.exp(-1j * k * t)


@pytest.mark.parametrize("door", [door for door in DOORS if door != "mapped"])
def test_complex_models_are_refused(door):
    with pytest.raises(TypeError, match="real"):
        DOORS[door](with_complex_values, Y)


def in_place(t, a, k):
    t *= 2.0
    return a * np.exp(-k * t / 2.0)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0, 9)])
def test_a_model_that_changes_x_is_refused(bounds):
    t = T.copy()
    with pytest.raises(ValueError, match="changed xdata in place"):
        curve_fit(in_place, t, Y[0], [1.0, 1.0], bounds=bounds)


@pytest.mark.parametrize("door", ["fit", "shared", "linear", "xsigma"])
def test_what_a_traced_model_changes_is_its_own(door):
    t = T.copy()
    expected = DOORS[door](decay, Y)
    np.testing.assert_allclose(DOORS[door](in_place, Y), expected, rtol=1e-7)
    np.testing.assert_array_equal(t, T)


@pytest.mark.parametrize(
    "door", ["leastsq", "fit", "shared", pytest.param("mapped", marks=pytest.mark.long)]
)
def test_a_model_that_raised_works_when_it_is_mended(door):
    """Nothing of a trace that ended by an exception is kept."""
    broken = [True]

    def model(t, a, k):
        if broken:
            raise Mine
        return decay(t, a, k)

    with pytest.raises(Mine):
        DOORS[door](model, Y)
    broken.clear()
    np.testing.assert_array_equal(DOORS[door](model, Y), DOORS[door](decay, Y))


@pytest.mark.long_but(
    "leastsq", "curve_fit", "bounds", "batch", "fit", "shared", "linear", "xsigma"
)
@pytest.mark.parametrize("door", DOORS)
def test_nothing_warns_where_nothing_is_wrong(door):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = np.asarray(DOORS[door](decay, Y))
    assert np.isfinite(out).all()


# --- threads ------------------------------------------------------------------------------


def together(calls):
    """What calls return that all begin at once, each in a thread."""
    gate, found = threading.Barrier(len(calls)), [None] * len(calls)

    def run(k):
        gate.wait()
        try:
            found[k] = calls[k]()
        except BaseException as error:
            found[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def scaled(number):
    """Models of other structures."""
    return lambda t, a, k: decay(t, a, k) * sum(1.0 for _ in range(number)) + 0.0 * t**number


@pytest.mark.long
@pytest.mark.parametrize("models", [(1, 1, 1, 1), (1, 2, 3, 4)], ids=["one model", "four"])
def test_every_door_in_four_threads_at_once(models):
    for name, door in DOORS.items():
        expected = [door(scaled(number), Y) for number in models]
        for one, other in zip(
            together([lambda n=n, door=door: door(scaled(n), Y) for n in models]),
            expected,
            strict=True,
        ):
            assert not isinstance(one, BaseException), (name, one)
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.long
def test_doors_beside_each_other_and_a_jit_of_the_callers():
    own = jax.jit(lambda v: jnp.cumsum(jnp.sin(v)) * 2.0)
    expected = [np.asarray(door(decay, Y)) for door in DOORS.values()]
    calls = [lambda door=door: np.asarray(door(decay, Y)) for door in DOORS.values()]
    calls += [lambda: np.asarray(own(np.ones(1000, np.float32)))] * 3
    *found, one, two, three = together(calls)
    for name, a, b in zip(DOORS, found, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    np.testing.assert_array_equal(one, two)
    assert one.dtype == three.dtype == np.float32  # no thread sees another's x64


# --- pickles ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"shared": ["a"]}, {"linear": ["a"]}, {"bounds": (0, 9)}])
def test_results_through_pickle(options):
    result = fit(decay, T, Y, P0, **options)
    back = pickle.loads(pickle.dumps(result))
    for name in ("x", "cost", "status", "nfev", "cov", "dof"):
        np.testing.assert_array_equal(getattr(back, name), getattr(result, name), err_msg=name)
    assert back.names == result.names
    assert repr(back) == repr(result)


# --- fits inside of fits ------------------------------------------------------------------


@pytest.mark.long_but("fit")
@pytest.mark.parametrize("inner", ["leastsq", "curve_fit", "fit", "shared"])
def test_a_fit_in_a_model_that_is_called_from_python(inner):
    """A model that itself fits, as one that calibrates does."""
    expected = np.asarray(DOORS[inner](decay, Y))

    def model(t, a, k):
        found = np.asarray(DOORS[inner](decay, Y))
        np.testing.assert_array_equal(found, expected)
        return float(a) * np.exp(-float(k) * t)

    result = fit(model, T, Y, [1.0, 1.0])
    np.testing.assert_allclose(result.x, fit(decay, T, Y, [1.0, 1.0]).x, rtol=1e-4)


@pytest.mark.parametrize("engine", [pytest.param("xla", marks=pytest.mark.long), "lanes"])
def test_a_fit_in_progress(engine):
    """The callback that shows progress fits something itself."""
    seen = []

    def progress(done, total):
        seen.append(leastsq(lambda p: decay(T, *p) - Y[0], [1.0, 1.0])[0])

    with using(engine):
        result = fit(decay, T, Y, [1.0, 1.0], progress=progress)
    assert result.success.all()
    assert seen
    np.testing.assert_allclose(seen[0], result.x[0], rtol=1e-6)


# --- loops of the user's --------------------------------------------------------------------


def looping(t, a, k):
    """A decay through a loop that has no end where values are hugely negative."""
    value = a * jnp.exp(-k * t)
    return jax.lax.while_loop(lambda v: jnp.sum(v) < -1e9, lambda v: v + 1.0, value)


@pytest.mark.long_but("3")
@pytest.mark.parametrize("count", [1, 3])
def test_lanes_without_a_problem_do_not_keep_a_loop_going(count):
    """Fewer fits than a register has lanes: the others' numbers are of nobody."""
    y = np.repeat(2.5 * np.exp(-1.3 * T)[None], count, axis=0)
    np.testing.assert_allclose(mapped(looping, y), np.full((count, 2), [2.5, 1.3]), rtol=1e-5)
    result = fit(looping, T, y, P0)
    assert result.engine == "compiled lanes"
    np.testing.assert_allclose(result.x, np.full((count, 2), [2.5, 1.3]), rtol=1e-7)


@pytest.mark.long
def test_loops_side_by_side_go_through_xla():
    def model(t, a, k):
        return jax.vmap(lambda t: looping(t, a, k))(t)

    result = fit(model, T, Y, P0, jac="2-point")
    np.testing.assert_allclose(result.x, fit(decay, T, Y, P0).x, rtol=1e-6)
