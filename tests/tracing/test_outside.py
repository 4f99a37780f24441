"""What a model reaches through modules, classes and names of other functions may change too."""

import enum
import functools
import importlib
import operator
import os
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.constants

from jaxlsq import clear_cache, curve_fit, fit, least_squares, least_squares_batch, leastsq
from jaxlsq.tracing.fingerprint import Fingerprint

T = np.linspace(0.0, 2.0, 12)
Y = np.exp(-T)
SCALE = [1.0]


@functools.wraps(jnp.exp)
def named_as_jaxs(x):
    return jnp.exp(SCALE[0] * x)


class Module(types.ModuleType):
    @property
    def scale(self):
        return SCALE[0]


def double():
    SCALE[0] = 2.0


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """A package with a module of numbers, and one with a function that imports it."""
    SCALE[0] = 1.0
    (tmp_path / "package_of_the_test").mkdir()
    for name, text in {
        "__init__": "",
        "settings": "scale, other = 1.0, 1.0",
        "one": "def scale(k):\n    from . import settings\n    return k * settings.scale",
        "two": "def scale(k):\n    from .settings import scale as s\n    return k * s",
        "three": "import package_of_the_test as settings\n"
        "def scale(k):\n    import package_of_the_test.settings\n"
        "    return k * package_of_the_test.settings.scale",
    }.items():
        (tmp_path / "package_of_the_test" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("package_of_the_test.settings")
    for name in [name for name in sys.modules if name.startswith("package_of_the_test")]:
        del sys.modules[name]


def in_an_object(settings):
    class Model:
        def __init__(self):
            self.part = settings

        def __call__(self, t, k):
            return jnp.exp(-k * self.part.scale * t)

    return Model()


def in_a_class(settings):
    class Base:
        part = settings

    class Model(Base):
        def value(self, t, k):
            return jnp.exp(-k * self.part.scale * t)

    return Model().value


def in_a_partial(settings):
    return functools.partial(lambda part, t, k: jnp.exp(-k * part.scale * t), settings)


def given_to_a_function(settings):
    def scale(part):
        return part.scale

    return lambda t, k: jnp.exp(-k * scale(settings) * t)


def of_two_functions(settings):
    def other(k):
        return k * settings.other

    def scaled(k):
        return k * settings.scale

    return lambda t, k: jnp.exp(-other(scaled(k)) * t)


def under_jit(settings):
    scale = functools.partial(lambda part: part.scale, settings)
    return lambda t, k: jax.jit(lambda x: x)(jnp.exp(-k * scale() * t))


def by_its_dict(settings):
    return lambda t, k: jnp.exp(-k * settings.__dict__["scale"] * t)


def by_an_operator(settings):
    return lambda t, k: jnp.exp(-k * operator.attrgetter("scale")(settings) * t)


def by_another_name_of_getattr(settings):
    take = getattr
    return lambda t, k: jnp.exp(-k * take(settings, "scale") * t)


def by_globals_of_a_function(settings):
    space = vars(settings)
    exec("def nothing(): pass", space)
    nothing = settings.nothing
    return lambda t, k: jnp.exp(-k * nothing.__globals__["scale"] * t)


def imported_by_a_dot(settings):
    return _of_module("one")


def imported_from_a_dot(settings):
    return _of_module("two")


def imported_under_a_name_that_is_global(settings):
    return _of_module("three")


def _of_module(name):
    scale = importlib.import_module(f"package_of_the_test.{name}").scale
    scale(1.0)
    return lambda t, k: jnp.exp(-scale(k) * t)


MODULES = [
    *(in_an_object, in_a_class, in_a_partial, given_to_a_function, of_two_functions, under_jit),
    *(by_its_dict, by_an_operator, by_another_name_of_getattr, by_globals_of_a_function),
    *(imported_by_a_dot, imported_from_a_dot, imported_under_a_name_that_is_global),
]


def is_seen(model, change):
    before = Fingerprint(model)
    change()
    after = Fingerprint(model)
    return not (before.complete and after.complete and before.key == after.key)


@pytest.mark.parametrize("make", MODULES, ids=lambda f: f.__name__)
def test_numbers_of_a_module(make, settings):
    model = make(settings)
    np.testing.assert_allclose(model(T, 1.0), Y, rtol=1e-6)
    assert is_seen(model, lambda: setattr(settings, "scale", 2.0))
    np.testing.assert_allclose(model(T, 0.5), Y, rtol=1e-6)


DOORS = {
    "fit": lambda model: fit(model, T, Y, [0.7]).x[0],
    "least_squares_batch": lambda model: least_squares_batch(
        lambda p, y: model(T, p[0]) - y, [0.7], Y[None]
    ).x[0, 0],
    "leastsq": lambda model: leastsq(lambda p: model(T, p[0]) - Y, [0.7])[0][0],
    "curve_fit": lambda model: curve_fit(model, T, Y, [0.7])[0][0],
    "least_squares": lambda model: float(least_squares(lambda p: model(T, p) - Y, 0.7).x),
}


@pytest.mark.long_but(
    "in_an_object-curve_fit",
    "of_two_functions-leastsq",
    "of_two_functions-fit",
    "of_two_functions-least_squares",
)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("make", [in_an_object, of_two_functions], ids=lambda f: f.__name__)
def test_a_module_that_changes_between_fits(make, door, settings):
    clear_cache()
    model = make(settings)
    assert abs(DOORS[door](model) - 1.0) < 1e-5
    settings.scale = 2.0
    assert abs(DOORS[door](model) - 0.5) < 1e-5


def enum_with_a_list():
    class Kind(enum.Enum):
        ONE = [1.0]  # noqa: RUF012

    member = Kind.ONE
    return lambda t, k: jnp.exp(-k * member.value[0] * t), lambda: member.value.__setitem__(0, 2.0)


def enum_with_an_attribute():
    class Kind(enum.Enum):
        ONE = 1

    member = Kind.ONE
    member.scale = 1.0
    return lambda t, k: jnp.exp(-k * member.scale * t), lambda: setattr(member, "scale", 2.0)


def enum_with_a_method():
    class Kind(enum.Enum):
        ONE = 1

        def scale(self):
            return 1.0

    member = Kind.ONE
    return lambda t, k: jnp.exp(-k * member.scale() * t), lambda: setattr(
        Kind, "scale", lambda self: 2.0
    )


def class_of_a_class():
    class Meta(type):
        scale = 1.0

    class Kind(metaclass=Meta):
        pass

    return lambda t, k: jnp.exp(-k * Kind.scale * t), lambda: setattr(Meta, "scale", 2.0)


def names_of_another_function():
    return lambda t, k: named_as_jaxs(-k * t), double


def ufunc_of_a_function():
    scale = np.frompyfunc(lambda x: SCALE[0] * x, 1, 1)
    return lambda t, k: jnp.exp(-k * float(scale(1.0)) * t), double


def module_of_another_type():
    module = Module("module_of_the_test")
    return lambda t, k: jnp.exp(-k * module.scale * t), double


def number_in_a_library(monkeypatch):
    monkeypatch.setattr(scipy.constants, "c", 1.0)
    return lambda t, k: jnp.exp(-k * scipy.constants.c * t), lambda: monkeypatch.setattr(
        scipy.constants, "c", 2.0
    )


def function_in_a_library(monkeypatch):
    return lambda t, k: jnp.exp(-k * jnp.float32(1) * t), lambda: monkeypatch.setattr(
        jnp, "exp", lambda x: 2.0**x
    )


def a_builtin(monkeypatch):
    return lambda t, k: jnp.exp(-k * round(1.2) * t), lambda: monkeypatch.setattr(
        "builtins.round", lambda x: 2
    )


def a_file(tmp_path):
    path, look = tmp_path / "scale.txt", np.loadtxt
    path.write_text("1.0")
    return lambda t, k: jnp.exp(-k * look(path) * t), lambda: path.write_text("2.0")


def the_environment(monkeypatch):
    look = os.getenv
    monkeypatch.setenv("SCALE_OF_THE_TEST", "1.0")
    return lambda t, k: jnp.exp(
        -k * float(look("SCALE_OF_THE_TEST")) * t
    ), lambda: monkeypatch.setenv("SCALE_OF_THE_TEST", "2.0")


CHANGES = [
    *(enum_with_a_list, enum_with_an_attribute, enum_with_a_method, class_of_a_class),
    *(names_of_another_function, ufunc_of_a_function, module_of_another_type),
    *(number_in_a_library, function_in_a_library, a_builtin, a_file, the_environment),
]


@pytest.mark.parametrize("make", CHANGES, ids=lambda f: f.__name__)
def test_what_else_may_change(make, request):
    SCALE[0] = 1.0
    needs = make.__code__.co_varnames[: make.__code__.co_argcount]
    model, change = make(*map(request.getfixturevalue, needs))
    before = np.asarray(model(T, 1.0))
    assert is_seen(model, change)
    assert not np.allclose(model(T, 1.0), before)


def test_what_stays_is_known(settings):
    """And so is not traced again."""

    class Kind(enum.Enum):
        ONE = 1

    member, model = Kind.ONE, of_two_functions(settings)
    for one in (model, lambda t, k: model(t, k) * member.value, in_an_object(settings)):
        assert Fingerprint(one).complete
        assert Fingerprint(one).key == Fingerprint(one).key


class Jitted:
    """A model whose methods are no plain functions."""

    scale = 1.0

    @functools.partial(jax.jit, static_argnums=0)
    def jitted(self, t, k):
        return jnp.exp(-k * self.scale * t)

    @functools.lru_cache  # noqa: B019
    def factor(self):
        return self.scale

    def remembering(self, t, k):
        return jnp.exp(-k * self.factor() * t)


METHODS = [
    Jitted().jitted,
    Jitted().remembering,
    types.MethodType(functools.partial(lambda own, t, k: jnp.exp(-k * own.scale * t)), Jitted()),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("model", METHODS, ids=["jitted", "remembering", "partial"])
def test_methods_that_are_no_plain_functions(model, door):
    assert abs(DOORS[door](model) - 1.0) < 1e-5
