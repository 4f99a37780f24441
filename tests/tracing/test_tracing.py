"""The compile cache: one compilation per structure, never a wrong hit, no user data kept."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import least_squares, leastsq
from jaxlsq.tracing.cache import PROGRAMS, ProgramCache
from jaxlsq.tracing.jaxprs import depends
from jaxlsq.tracing.making import make_jaxpr
from jaxlsq.tracing.trace import evaluate, trace

X = np.linspace(0.0, 4.0, 50)


@pytest.fixture(autouse=True)
def empty_cache():
    """Each test starts with no compiled program."""
    PROGRAMS.clear()


def decay(params, x):
    return params[0] * jnp.exp(-params[1] * x) + params[2]


def fitted(residual, x0=(1.0, 1.0, 1.0), **options):
    return leastsq(residual, x0, full_output=True, **options)


def test_new_lambda_per_data_set_compiles_once(compiles):
    rng = np.random.default_rng(0)
    fitted(lambda p: decay(p, X) - np.exp(-X))
    before, nfev = compiles(), set()
    for _ in range(20):
        truth = rng.uniform(0.5, 2.0, 3)
        y = truth[0] * np.exp(-truth[1] * X) + truth[2]
        x, _, info, _, _ = fitted(lambda p, y=y: decay(p, X) - y)
        nfev.add(info["nfev"])
        np.testing.assert_allclose(x, truth, rtol=1e-6)
    assert compiles() == before
    assert len(PROGRAMS) == 1
    assert len(nfev) > 1


def test_arrays_in_args_and_in_jitted_helpers_are_data(compiles):
    def make(offset, y):
        @jax.jit
        def helper(p):
            return decay(p, X) + offset

        return lambda p, y: helper(p) - y, (y,)

    y = np.exp(-X)
    func, args = make(np.full(50, 0.25), y)
    fitted(func, args=args)
    before = compiles()
    for level in (0.5, 1.0):
        func, args = make(np.full(50, level), y)
        x = fitted(func, args=args)[0]
        np.testing.assert_allclose(x, [1, 1, -level], atol=1e-7)
    assert compiles() == before


def test_python_scalars_are_data_and_never_a_wrong_hit():
    y = np.exp(-X)
    fitted(lambda p: decay(p, X) - 2.0 * y)
    for scale in (3.0, 0.5, -1.0):
        x = fitted(lambda p, scale=scale: decay(p, X) - scale * y)[0]
        np.testing.assert_allclose(x, [scale, 1, 0], atol=1e-6)
        literal = fitted(lambda p, scale=scale: scale * (decay(p, X) - y) + (scale - 1.0))[0]
        np.testing.assert_allclose(literal, [1, 1, (1 - scale) / scale], atol=1e-6)
    assert len(PROGRAMS) == 2  # the second form is one more structure


def test_integers_and_branches_are_structure():
    def make(power, squared):
        def residual(p):
            model = p[0] * X**power
            if squared:
                model = model**2
            return model + p[1] + p[2] * X**5 - (1.5 * X**power) ** (2 if squared else 1)

        return residual

    for power in (1, 2, 3):
        for squared in (False, True):
            x = fitted(make(power, squared), (1.0, 0.1, 0.1))[0]
            np.testing.assert_allclose(x, [1.5, 0, 0], atol=1e-6)


@pytest.mark.long
def test_same_named_functions_with_other_operations_differ():
    y = 2 * np.exp(-X)
    fits = []
    for operation in (jnp.exp, jnp.exp2, lambda v: jnp.exp(v) + 0 * v):

        def residual(p, operation=operation):
            return p[0] * operation(-p[1] * X) + p[2] - y

        fits.append(fitted(residual)[0])
    np.testing.assert_allclose(fits[0], [2, 1, 0], atol=1e-6)
    np.testing.assert_allclose(fits[1], [2, 1 / np.log(2), 0], atol=1e-6)
    np.testing.assert_allclose(fits[2], [2, 1, 0], atol=1e-6)


def with_rule(factor):
    @jax.custom_jvp
    def scaled(v):
        return jnp.exp(v)

    @scaled.defjvp
    def _(primals, tangents):
        return jnp.exp(primals[0]), factor(jnp.exp(primals[0])) * tangents[0]

    return scaled


@pytest.mark.long_but("nested")
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
def test_custom_derivative_rules_are_part_of_the_key(nested, compiles):
    y = np.exp(-X)

    def njev_with(factor, nested):
        rule = with_rule(factor)
        wrapped = jax.jit(rule) if nested else rule
        return fitted(lambda p: p[0] * wrapped(-p[1] * X) + p[2] - y, (2.0, 2.0, 0.5), maxfev=40)[2]

    right = njev_with(lambda v: v, nested)
    wrong = njev_with(jnp.square, nested)
    assert np.sum(right["fvec"] ** 2) < 1e-12
    assert right["njev"] != wrong["njev"]
    before = compiles()
    njev_with(lambda v: v, nested)
    assert compiles() == before


def test_library_functions_with_custom_rules_are_cached(compiles):
    def residual(y):
        return lambda p: jax.nn.softplus(p[0] * X + p[1]) + jnp.interp(p[2], X, X) - y

    fitted(residual(np.log1p(np.exp(X))), (0.5, 0.1, 0.5))
    before = compiles()
    fitted(residual(1.5 + np.log1p(np.exp(0.7 * X))), (0.5, 0.1, 0.5))
    assert compiles() == before


def test_callbacks_are_not_cached():
    seen = []

    def make(tag):
        def residual(p):
            jax.debug.callback(lambda: seen.append(tag))
            return decay(p, X) - np.exp(-X)

        return residual

    for tag in ("first", "second"):
        fitted(make(tag))
        jax.effects_barrier()
    assert {"first", "second"} == set(seen)
    assert len(PROGRAMS) == 0


def test_pure_callback_runs_on_the_host():
    def residual(p):
        shape = jax.ShapeDtypeStruct((50,), np.float64)
        return jax.pure_callback(lambda q: q[0] * np.exp(-q[1] * X), shape, p) - 2 * np.exp(-X)

    x, _, info, _, ier = fitted(residual, (1.0, 0.5))
    assert ier in (1, 2, 3)
    assert "njev" not in info
    np.testing.assert_allclose(x, [2, 1], rtol=1e-6)


@pytest.mark.long
def test_changed_type_and_shape_of_data_are_other_programs():
    for dtype in (np.float64, np.float32):
        for m in (50, 40):
            y = np.exp(-X[:m]).astype(dtype)
            x = fitted(lambda p, y=y, m=m: decay(p, X[:m]) - y)[0]
            np.testing.assert_allclose(x, [1, 1, 0], atol=1e-6)
    assert len(PROGRAMS) == 4


def test_loops_and_branches_inside_the_residual(compiles):
    def make(count, y):
        def residual(p):
            total = jax.lax.fori_loop(0, count, lambda i, s: s + p[0] * X**i, jnp.zeros(50))
            return jnp.where(X > 1.0, total, p[1] + total) - y

        return residual

    for count in (2, 3):
        model = sum(1.5 * X**i for i in range(count))
        x = fitted(make(count, np.where(X > 1, model, model + 0.5)), (1.0, 0.0))[0]
        np.testing.assert_allclose(x, [1.5, 0.5], atol=1e-6)
    before = compiles()
    fitted(make(3, model), (1.0, 0.0))
    assert compiles() == before


def test_data_inside_a_loop_body_are_not_mixed_up():
    def make(table, y):
        @jax.jit
        def lookup(i):
            return jnp.asarray(table)[i]

        def residual(p):
            total = jax.lax.fori_loop(0, 3, lambda i, s: s + lookup(i), 0.0)
            return p[0] * total * X + p[1] - y

        return residual

    for table in (np.ones(3), np.full(3, 2.0)):
        x = fitted(make(table, 6 * X + 1), (1.0, 0.0))[0]
        np.testing.assert_allclose(x, [6 / table.sum(), 1], atol=1e-6)


def test_no_user_data_are_kept():
    y = np.exp(-X) + 0.0
    held = jnp.asarray(np.exp(-X))
    refs = [weakref.ref(y), weakref.ref(held)]

    def fit(y, held):
        fitted(lambda p: decay(p, X) - y + 0 * held)

    fit(y, held)
    del y, held
    gc.collect()
    assert len(PROGRAMS) == 1
    assert [ref() for ref in refs] == [None, None]


def test_a_program_that_is_kept_holds_no_tracer():
    """A jaxpr may have its constants with it: here those that `vmap` maps over."""

    def rate(y):
        return least_squares(lambda p: decay((*p, 0.0), X) - y, np.ones(2)).x[1]

    y = np.exp(-np.array([[0.5], [0.9]]) * X).astype(np.float32)
    with jax.checking_leaks():
        rates = jax.jit(jax.vmap(rate))(y)
    np.testing.assert_allclose(rates, [0.5, 0.9], rtol=1e-4)


def test_cache_is_bounded_and_drops_the_least_recently_used():
    cache = ProgramCache(size=2)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda key=key: key + "!")
    assert len(cache) == 2
    assert cache.get("a", lambda: "new") == "a!"
    assert cache.get("b", lambda: "new") == "new"
    assert cache.get(None, lambda: "uncached") == "uncached"
    assert len(cache) == 2


def test_evaluate_reproduces_the_function_on_other_data(x64):
    def make(a, b):
        return lambda x: (jnp.sum(jnp.sin(x * a)) * b, jax.nn.relu(x - b))

    one = trace(make(np.arange(3.0), 2.5), np.ones(3))
    two = trace(make(np.arange(3.0) + 1, -0.5), np.ones(3))
    assert one.key == two.key
    x = np.array([0.3, 0.2, 0.1])
    for got, expected in zip(
        evaluate(one, [x], *two.data), make(np.arange(3.0) + 1, -0.5)(x), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_what_a_scan_gives_depends_on_what_its_carry_does():
    def function(a, b):
        def step(carry, row):
            first, second = carry
            return (first + row * a, second * b), row

        return jax.lax.scan(step, (0.0, 1.0), jnp.arange(3.0))

    jaxpr, _, _ = make_jaxpr(function, 1.0, 2.0)
    assert depends(jaxpr, [True, False]) == [True, False, False]
    assert depends(jaxpr, [False, True]) == [False, True, False]
