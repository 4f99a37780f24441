"""A trace is remembered only as long as nothing changes that could change it."""

import collections
import functools
import gc
import sys
import threading
import types
import weakref
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import clear_cache, curve_fit, fit, least_squares, least_squares_batch, leastsq
from jaxlsq.batch import program
from jaxlsq.single import tried
from jaxlsq.tracing.fingerprint import Fingerprint
from jaxlsq.tracing.trace import trace
from jaxlsq.transforms import program as transforms

T = np.linspace(0.0, 2.0, 12)
Y = np.exp(-np.array([0.5, 1.0, 2.0])[:, None] * T)
SCALE = 1.0
HELPER = types.ModuleType("helper_of_the_test")
HELPER.scale = 1.0
exec("scale = 1.0\ndef scaled(k):\n    return k * scale", HELPER.__dict__)


def scaled(k):
    return k * SCALE


def change_a_global():
    global SCALE

    def change():
        global SCALE
        SCALE = 2.0

    SCALE = 1.0
    return lambda t, k: jnp.exp(-k * SCALE * t), change


def change_what_a_function_reads():
    _model, change = change_a_global()
    return lambda t, k: jnp.exp(-scaled(k) * t), change


def redefine_a_function():
    global scaled

    def change():
        global scaled
        old = scaled

        def scaled(k):
            return 2.0 * k

        return lambda: globals().update(scaled=old)

    return lambda t, k: jnp.exp(-scaled(k) * t), change


def change_a_closure():
    scale = 1.0

    def change():
        nonlocal scale
        scale = 2.0

    return lambda t, k: jnp.exp(-k * scale * t), change


def change_an_array():
    scale = np.ones(3)
    return lambda t, k: jnp.exp(-k * scale[0] * t), lambda: scale.fill(2.0)


def change_a_large_array():
    scale = np.ones(100_000)
    return lambda t, k: jnp.exp(-k * jnp.mean(scale) * t), lambda: scale.fill(2.0)


def change_an_array_that_chooses():
    scale = np.ones(1)
    return lambda t, k: jnp.exp(-(k if scale[0] < 1.5 else 2 * k) * t), lambda: scale.fill(2.0)


def change_a_list():
    scales = [[1.0], 3]
    return lambda t, k: jnp.exp(-k * scales[0][0] * t), lambda: scales[0].__setitem__(0, 2.0)


def change_a_dict():
    scales = {1: 1.0}
    return lambda t, k: jnp.exp(-k * scales[1] * t), lambda: scales.update({1: 2.0})


def change_a_set():
    some = {"a"}
    return lambda t, k: jnp.exp(-k * len(some) * t), lambda: some.add("b")


def change_a_default():
    def model(t, k, *, scale=1.0):
        return jnp.exp(-k * scale * t)

    return model, lambda: model.__kwdefaults__.update(scale=2.0)


def change_an_attribute():
    class Holder:
        factor = 1.0

    holder = Holder()
    return lambda t, k: jnp.exp(-k * holder.factor * t), lambda: setattr(holder, "factor", 2.0)


def change_a_class():
    class Holder:
        factor = 1.0

    return lambda t, k: jnp.exp(-k * Holder.factor * t), lambda: setattr(Holder, "factor", 2.0)


def change_what_an_operator_does():
    class Factor:
        value = 1.0

        def __rmul__(self, other):
            return other * self.value

    factor = Factor()
    return lambda t, k: jnp.exp(-(k * factor) * t), lambda: setattr(Factor, "value", 2.0)


def change_a_property():
    state = [1.0]

    class Holder:
        @property
        def factor(self):
            return state[0]

    holder = Holder()
    return lambda t, k: jnp.exp(-k * holder.factor * t), lambda: state.__setitem__(0, 2.0)


def change_a_model():
    class Model:
        def __init__(self):
            self.scale = 1.0

        def __call__(self, t, k):
            return jnp.exp(-k * self.scale * t)

    model = Model()
    return model, lambda: setattr(model, "scale", 2.0)


def change_a_method():
    model, change = change_a_model()
    return model.__call__, change


def change_a_partial():
    scale = [1.0]
    return functools.partial(
        lambda s, t, k: jnp.exp(-k * s[0] * t), scale
    ), lambda: scale.__setitem__(0, 2.0)


def change_a_module():
    HELPER.scale = 1.0
    return lambda t, k: jnp.exp(-HELPER.scaled(k) * t), lambda: setattr(HELPER, "scale", 2.0)


def change_a_module_that_is_imported_inside():
    HELPER.scale = 1.0
    sys.modules["helper_of_the_test"] = HELPER

    def model(t, k):
        import helper_of_the_test

        return jnp.exp(-k * helper_of_the_test.scale * t)

    return model, lambda: setattr(HELPER, "scale", 2.0)


def change_a_module_by_getattr():
    HELPER.scale = 1.0
    return lambda t, k: jnp.exp(-k * getattr(HELPER, "sc" + "ale") * t), lambda: setattr(
        HELPER, "scale", 2.0
    )


def change_inside_of_jit():
    scale = [1.0]
    inner = jax.jit(lambda k: k)  # JAX itself remembers what is under jit: not what is outside
    return lambda t, k: jnp.exp(-inner(k) * scale[0] * t), lambda: scale.__setitem__(0, 2.0)


def change_in_a_nested_function():
    scale = [1.0]

    def model(t, k):
        def inner(k):
            return k * scale[0]

        return jnp.exp(-inner(k) * t)

    return model, lambda: scale.__setitem__(0, 2.0)


CHANGES = [value for name, value in list(globals().items()) if name.startswith(("change_", "rede"))]


@pytest.mark.parametrize("make", CHANGES, ids=lambda f: f.__name__)
def test_what_changes_is_seen(make, monkeypatch):
    monkeypatch.setitem(globals(), "SCALE", 1.0)
    monkeypatch.setitem(globals(), "scaled", scaled)
    model, change = make()
    before = fit(model, T, Y, [1.0])
    np.testing.assert_allclose(before.x[:, 0], [0.5, 1.0, 2.0], rtol=1e-6)
    change()
    after = fit(model, T, Y, [1.0])
    np.testing.assert_allclose(after.x[:, 0], [0.25, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(after.predict(), Y, rtol=1e-5)
    clear_cache()
    np.testing.assert_array_equal(fit(model, T, Y, [1.0]).x, after.x)


def test_a_derivative_rule_is_seen():
    def of(sign):
        @jax.custom_jvp
        def rate(k):
            return k

        rate.defjvp(lambda primals, tangents: (primals[0], sign * tangents[0]))
        return lambda t, k: jnp.exp(-rate(k) * t)

    right, wrong = (fit(of(sign), T, Y, [1.0]) for sign in (1.0, -1.0))
    assert right.success.all()
    assert not wrong.success[[0, 2]].any() or not np.allclose(wrong.x, right.x)
    assert Fingerprint(of(1.0)).key != Fingerprint(of(-1.0)).key


@pytest.fixture
def traces(monkeypatch):
    clear_cache()
    made = []
    real = program.trace
    monkeypatch.setattr(program, "trace", lambda *a: made.append(1) or real(*a))
    return made


def test_what_does_not_change_is_traced_once(traces):
    def model(scale):
        return lambda t, k: jnp.exp(-scaled(k) * scale * t)

    for _ in range(3):
        fit(model(1.0), T, Y, [1.0])
    assert len(traces) == 1
    fit(model(2.0), T, Y, [1.0])
    assert len(traces) == 2
    fit(model(1.0), T, 2 * Y, [0.5])
    fit(model(1.0), T, Y[:2], [0.5], max_nfev=3)
    assert len(traces) == 2
    fit(model(1.0), T[:9], Y[:, :9], [0.5])
    fit(model(1.0), T.astype(np.float32), Y.astype(np.float32), [0.5], polish=None)
    assert len(traces) == 4


TABLE = jnp.linspace(1.0, 2.0, T.size)


@jax.jit
def jitted(t, k):
    return jnp.exp(-k * t) * TABLE


@pytest.mark.parametrize(
    "model",
    [
        lambda t, k: jnp.exp(-k * t) * jnp.array([1.0] * T.size),
        lambda t, k: jnp.exp(-k * t) * TABLE,
        lambda t, k: jitted(t, k),
    ],
)
def test_arrays_that_a_trace_makes_or_finds_trace_nothing_again(model, traces):
    for _ in range(3):
        fit(model, T, Y, [1.0])
    assert len(traces) == 1


def test_a_jitted_function_whose_cache_is_cleared(monkeypatch):
    """JAX keeps a jitted function as it was: what it is can be seen by a trace alone."""
    monkeypatch.setitem(globals(), "SCALE", 1.0)
    model = jax.jit(lambda t, k: jnp.exp(-k * SCALE * t))
    rates = []
    for scale in (1.0, 2.0, 2.0):
        monkeypatch.setitem(globals(), "SCALE", scale)
        rates.append(fit(model, T, Y, [1.0]).x[1, 0])
    np.testing.assert_allclose(rates, 1.0, rtol=1e-6)
    model.clear_cache()
    np.testing.assert_allclose(fit(model, T, Y, [1.0]).x[1, 0], 0.5, rtol=1e-6)


def test_covariances_trace_nothing_more(traces):
    def model(t, k):
        return jnp.exp(-k * t)

    for _ in range(3):
        fit(model, T, Y, [1.0]).cov  # noqa: B018
    assert len(traces) == 1  # that of the fit


def test_models_that_numpy_writes(traces):
    for _ in range(3):
        fit(lambda t, k: np.exp(-k * t), T, Y, [1.0])
    assert len(traces) == 1


@pytest.mark.parametrize("loss", ["linear", "huber", lambda z: jnp.stack([z, 1 + 0 * z, 0 * z])])
def test_one_fit_again_traces_nothing(loss, monkeypatch):
    clear_cache()
    made = []
    monkeypatch.setattr(tried, "trace", lambda *a: made.append(1) or trace(*a))

    def rate(y, scale=1.0):
        model = lambda t, k: jnp.exp(-k * scale * t)  # noqa: E731
        (k,), _ = curve_fit(model, T, y, [0.7], bounds=(0, 5), loss=loss)
        return k

    assert abs(rate(Y[1]) - 1.0) < 1e-6
    assert rate(Y[1]) == rate(Y[1]) == rate(Y[1].copy())
    assert len(made) == 1
    assert abs(rate(Y[1], 2.0) - 0.5) < 1e-6
    assert abs(rate(Y[0]) - 0.5) < 1e-6
    assert len(made) == 3


def test_equations_again_are_not_traced(monkeypatch):
    clear_cache()
    made = []
    monkeypatch.setattr(tried, "trace", lambda *a: made.append(1) or trace(*a))
    for scale in (1.0, 1.0, 2.0, 1.0):
        (k,), _ = leastsq(lambda p, y: jnp.exp(-p * scale * T) - y, [0.7], args=(Y[1],))  # noqa: B023
        assert abs(k * scale - 1.0) < 1e-6
    assert len(made) == 2
    leastsq(lambda p, y: jnp.exp(-p * T) - y, [0.7], args=(Y[1].astype(np.float32),))
    assert len(made) == 3


def test_least_squares_again_traces_nothing(monkeypatch):
    clear_cache()
    made = []
    monkeypatch.setattr(transforms, "trace", lambda *a: made.append(1) or trace(*a))

    def rate(y, k0=0.7):
        return float(least_squares(lambda p: jnp.exp(-p * T) - y, k0).x)

    first, again = rate(Y[1]), rate(Y[1])
    assert first == again == rate(Y[1].copy())
    once = len(made)
    assert once == 2  # the function, and the lane that is made of it
    assert abs(rate(Y[1], 0.4) - 1.0) < 1e-4
    assert len(made) == once
    assert abs(rate(Y[0]) - 0.5) < 1e-4
    assert len(made) == once + 1
    slope = jax.grad(lambda y: least_squares(lambda p: jnp.exp(-p * T) - y, 0.7).x)(jnp.array(Y[1]))
    step = 1e-3 * T
    change = rate(Y[1] + step) - rate(Y[1] - step)
    np.testing.assert_allclose(slope @ step, change / 2, rtol=2e-2)


def offset_by(offset):
    """A model that reads an array, and one equation that does."""
    return (lambda t, k: jnp.exp(-k * t) + offset), (lambda p: jnp.exp(-p * T) + offset - Y[1])


DOORS = {
    "fit": lambda offset: fit(offset_by(offset)[0], T, Y, [0.7]).x[1, 0],
    "least_squares_batch": lambda offset: least_squares_batch(
        lambda p, y: offset_by(offset)[0](T, p) + 0 * y - y, [0.7], Y
    ).x[1, 0],
    "leastsq": lambda offset: leastsq(offset_by(offset)[1], [0.7])[0][0],
    "curve_fit": lambda offset: curve_fit(offset_by(offset)[0], T, Y[1], [0.7])[0][0],
    "curve_fit, bounds": lambda offset: curve_fit(
        offset_by(offset)[0], T, Y[1], [0.7], bounds=(0, 5)
    )[0][0],
    "least_squares": lambda offset: float(least_squares(offset_by(offset)[1], 0.7).x),
}


@pytest.mark.parametrize("door", DOORS)
def test_arrays_that_change_in_place(door):
    """What is remembered of an array is a copy: it may be changed, and another be equal to it."""
    clear_cache()
    offset = np.zeros(T.size)
    first = DOORS[door](offset)
    assert abs(first - 1.0) < 1e-5
    offset += 0.2
    moved = DOORS[door](offset)
    assert moved - 1.0 > 0.1
    assert DOORS[door](np.zeros(T.size)) == first
    assert DOORS[door](np.full(T.size, 0.2)) == moved


@pytest.mark.long_but("fit", "leastsq")
@pytest.mark.parametrize("door", DOORS)
def test_arrays_of_jax_are_not_kept(door):
    """A trace that read one which is no more is made again."""
    clear_cache()
    for size in (0.0, 0.2, 0.0):
        offset = jnp.full(T.size, size)
        rate = DOORS[door](offset)
        assert rate == DOORS[door](offset)
        assert abs(rate - 1.0) < 1e-4 if size == 0 else rate > 1.1
        alive = weakref.ref(offset)
        del offset
        gc.collect()
        assert alive() is None


class Pair(NamedTuple):
    """A tuple with names."""

    one: float
    other: float


class Number(float):
    pass


class Text(str):
    pass


class Table(dict):
    pass


class Row(list):
    pass


class Slots:
    __slots__ = ("__dict__", "value")


class Dots(Slots):
    pass


class Deque(collections.deque):
    pass


DYNAMIC = types.ModuleType("dynamic")
DYNAMIC.__getattr__ = lambda name: 1.0


@pytest.mark.parametrize(
    "value",
    [
        np.ones(10_000), np.ma.ones(3), np.array([None]), {1, 2}, np.random.default_rng(0),
        iter([1]), list(range(2000)), (i for i in range(3)), Number(1.0), Text("a"), Table(a=1),
        np.zeros(1, "O,f8"), functools.lru_cache(scaled),
        Row([1]), Slots(), Deque([1]), DYNAMIC, threading.Lock(), Dots(), Pair(1.0, 2.0),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_is_not_known_is_not_complete(value):
    assert not Fingerprint(lambda x: value).complete


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (1, True), (0.0, -0.0), (1.0, np.float64(1.0)), (np.float32(1), np.float64(1)),
        (np.ones(2), np.ones(2, np.float32)), (np.ones((2, 1)), np.ones((1, 2))),
        ([1, 2], (1, 2)), ({"a": 1}, {"b": 1}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ("1", 1),
        (jnp.exp, jnp.sin), (np.exp, np.sin), (len, max), (1 + 2j, 1 - 2j),
        ((1, (2, 3)), (1, 2, 3)),
        ([[1], [2]], [[1, 2], []]), (jnp.ones(2), jnp.ones(2)),
    ],
)  # fmt: skip
def test_values_that_differ(one, other):
    def of(value):
        return Fingerprint(lambda x: value)

    assert of(one).complete
    assert of(other).complete
    assert of(one).key == of(one).key
    assert of(one).key != of(other).key


def test_equal_values_are_equal():
    def of(value):
        return Fingerprint(lambda x: value).key

    for make in (lambda: np.arange(3.0), lambda: [1, {"a": (2.0, "b")}], lambda: jnp.exp):
        assert of(make()) == of(make())
    assert of(float("nan")) == of(float("nan"))


def test_jaxs_settings_are_part_of_it():
    def model(t, k):
        return jnp.exp(-k * t) * np.float32(1.0)

    assert fit(model, T, Y, [1.0]).success.all()
    with (
        jax.numpy_dtype_promotion("strict"),
        pytest.raises(Exception, match="no available implicit dtype promotion path"),
    ):
        fit(model, T, Y, [1.0])


class Asked:
    """A part of a model that, when it is asked for an attribute, adds one to the model."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        setattr(self.model, f"asked_{len(vars(self.model))}", 1.0)
        raise AttributeError(name)


class Growing:
    def __init__(self):
        self.part, self.rate = Asked(self), 1.0

    def __call__(self, t, k):
        return jnp.exp(-k * self.rate * t)


@pytest.mark.long_but("leastsq", "fit")
@pytest.mark.parametrize(
    "fitted",
    [
        lambda model: fit(model, T, Y[1], [0.5]).x,
        lambda model: curve_fit(model, T, Y[1], [0.5])[0],
        lambda model: leastsq(lambda p: np.asarray(model(T, *p)) - Y[1], [0.5])[0],
        lambda model: least_squares(lambda p: model(T, *p) - Y[1], jnp.array([0.5])).x,
    ],
    ids=["fit", "curve_fit", "leastsq", "least_squares"],
)
def test_an_object_that_grows_while_it_is_looked_at(fitted):
    """As one does that another thread is using."""
    np.testing.assert_allclose(fitted(Growing()), 1.0, rtol=1e-6)
