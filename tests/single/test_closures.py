"""What functions close over: any of it, in every door, and no call depends on earlier ones."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxlsq
from jaxlsq import curve_fit, fit, least_squares, least_squares_batch, leastsq
from jaxlsq.single.tried import UNTRACEABLE
from jaxlsq.tracing.signature import Signature

T = np.linspace(0.1, 4.0, 30)
Y = 2.5 * np.exp(-1.3 * T)


@pytest.fixture(autouse=True)
def empty_memory():
    jaxlsq.clear_cache()


@pytest.mark.long
def test_a_function_that_calls_itself():
    def series(z, k):
        return 1.0 if k == 0 else 1.0 + z / k * series(z, k - 1)

    x, ier = leastsq(lambda p: series(p, 3) - 2.0, [1.0])
    reference = scipy.optimize.leastsq(lambda p: series(p, 3) - 2.0, [1.0])[0]
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, reference, rtol=1e-6)
    popt, _ = curve_fit(lambda t, a: series(a * t, 3), T, series(T, 3), [0.5])
    np.testing.assert_allclose(popt, [1], rtol=1e-8)


def test_functions_that_call_each_other():
    def even(k):
        return k == 0 or odd(k - 1)

    def odd(k):
        return k != 0 and even(k - 1)

    x, _ = leastsq(lambda p: p * p - (2.0 if even(4) else 3.0), [1.0])
    np.testing.assert_allclose(x, np.sqrt(2), rtol=1e-7)


def test_a_name_that_is_assigned_later():
    def func(p):
        return later(p) if False else p * p - 2.0

    x, _ = leastsq(func, [1.0])
    later = None
    assert later is None
    np.testing.assert_allclose(x, np.sqrt(2), rtol=1e-7)


@pytest.mark.long
@pytest.mark.parametrize(
    "make", [jax.random.key, pytest.param(jax.random.PRNGKey, marks=pytest.mark.long)]
)
def test_keys_of_random_numbers_in_every_door(make):
    key = make(0)

    def model(t, a, k):
        return a * jnp.exp(-k * t) + 1e-9 * jax.random.normal(key, t.shape, t.dtype)

    def residual(p):
        return model(T, *p) - Y

    def close(x, rtol=1e-6):
        np.testing.assert_allclose(x, [2.5, 1.3], rtol=rtol)

    close(leastsq(residual, [1.0, 1.0])[0])
    close(curve_fit(model, T, Y, [1.0, 1.0])[0])
    close(curve_fit(model, T, Y, [1.0, 1.0], bounds=(0, 9))[0])
    result = fit(model, T, np.stack([Y, Y]), [1.0, 1.0])
    close(result.x[1])
    close(result.predict()[0][:2] / np.exp(-1.3 * T[:2]) - [0, 1.2], 1e-5)
    short = jnp.asarray(T, jnp.float32)

    def in_float32(p):
        return model(short, *p) - jnp.asarray(Y, jnp.float32)

    close(least_squares(in_float32, jnp.ones(2)).x, 1e-4)
    close(jax.jit(lambda x: least_squares(in_float32, x).x)(jnp.ones(2)), 1e-4)
    jax.grad(lambda y: least_squares(lambda p: model(short, *p) - y, jnp.ones(2)).x[0])(
        jnp.asarray(Y, jnp.float32)
    )
    batch = least_squares_batch(lambda p, y: model(T, *p) - y, [1.0, 1.0], np.stack([Y, Y]))
    close(batch.x[0])


class Decay:
    def __init__(self, xp):
        self.xp = xp

    def residual(self, p):
        return p[0] * self.xp.exp(-p[1] * T) - Y


class DecayOfModel:
    def __init__(self, model):
        self.model = model

    def residual(self, p):
        return self.model(T, p[0], p[1]) - Y

    __call__ = residual


def by_default(p, xp=np):
    return p[0] * xp.exp(-p[1] * T) - Y


def by_keyword_default(p, *, xp=np):
    return p[0] * xp.exp(-p[1] * T) - Y


def with_xp(xp, p):
    return p[0] * xp.exp(-p[1] * T) - Y


def pair_of_objects():
    return Decay(np).residual, Decay(jnp).residual


def pair_of_models():
    return tuple(
        DecayOfModel(lambda t, a, k, xp=xp: a * xp.exp(-k * t)).residual for xp in (np, jnp)
    )


def pair_of_callables():
    return tuple(DecayOfModel(lambda t, a, k, xp=xp: a * xp.exp(-k * t)) for xp in (np, jnp))


def pair_of_partials():
    return partial(with_xp, np), partial(with_xp, jnp)


def pair_of_keywords():
    return partial(by_default, xp=np), partial(by_default, xp=jnp)


def pair_of_defaults():
    def other(p, xp=jnp):
        return p[0] * xp.exp(-p[1] * T) - Y

    same = type(by_default)(by_default.__code__, globals(), argdefs=(jnp,))
    return by_default, same if other else None


def pair_of_keyword_defaults():
    same = type(by_default)(by_keyword_default.__code__, globals())
    same.__kwdefaults__ = {"xp": jnp}
    return by_keyword_default, same


def pair_of_closures():
    def make(table):
        return lambda p: p[0] * table["exp"](-p[1] * T) - Y

    return make({"exp": np.exp}), make({"exp": jnp.exp})


def pair_of_flags():
    def make(numpy):
        return lambda p: p[0] * (np.exp if numpy else jnp.exp)(-p[1] * T) - Y

    return make(True), make(False)


def pair_of_class_attributes():
    def make(xp):
        class Model:
            module = xp

            def residual(self, p):
                return p[0] * self.module.exp(-p[1] * T) - Y

        return Model().residual

    return make(np), make(jnp)


PAIRS = [
    *(pair_of_objects, pair_of_models, pair_of_callables, pair_of_partials, pair_of_keywords),
    *(pair_of_defaults, pair_of_keyword_defaults, pair_of_closures, pair_of_flags),
    pair_of_class_attributes,
]


@pytest.mark.long_but("pair_of_partials", "pair_of_closures")
@pytest.mark.parametrize("pair", PAIRS)
def test_no_result_depends_on_earlier_calls(pair):
    numpy, traceable = pair()
    fresh = leastsq(traceable, [1.0, 1.0], full_output=True)
    UNTRACEABLE.clear()
    in_numpy = leastsq(numpy, [1.0, 1.0], full_output=True)
    again = leastsq(traceable, [1.0, 1.0], full_output=True)
    assert "njev" not in in_numpy[2]
    assert again[2]["njev"] == fresh[2]["njev"]
    assert again[2]["nfev"] == fresh[2]["nfev"]
    np.testing.assert_array_equal(again[0], fresh[0])
    np.testing.assert_allclose(in_numpy[0], [2.5, 1.3], rtol=1e-7)
    assert "njev" not in leastsq(numpy, [1.0, 1.0], full_output=True)[2]


def test_an_object_that_changes():
    model = Decay(np)
    assert "njev" not in leastsq(model.residual, [1.0, 1.0], full_output=True)[2]
    model.xp = jnp
    assert "njev" in leastsq(model.residual, [1.0, 1.0], full_output=True)[2]


def test_what_is_remembered_is_bounded_and_the_same_for_other_data():
    for k in range(5):
        leastsq(lambda p, k=k: p[0] * np.exp(-p[1] * T) - Y - np.full(30, float(k)), [1.0, 1.0])
        y = Y + k
        leastsq(lambda p, y=y: p[0] * np.exp(-p[1] * T) - y, [1.0, 1.0])
    assert len(UNTRACEABLE) == 2  # one for each line: what it closes over are its data
    for k in range(1100):
        UNTRACEABLE.put(k, False)
    assert len(UNTRACEABLE) == 1024


class Slots:
    __slots__ = ("value",)


def test_signatures():
    assert Signature(lambda p: p).complete
    slots = Slots()
    assert not Signature(lambda p: slots).complete
    numbers = [1, 2, 3]
    one = Signature(lambda p: numbers).key
    assert isinstance(hash(one), int)
    deep = []
    for _ in range(1000):
        deep = [deep, object()]
    assert not Signature(lambda p: deep).complete
