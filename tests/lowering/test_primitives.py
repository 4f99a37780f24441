"""Primitives on registers, against JAX: arithmetic, structure, reductions, loops and branches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlsq.lowering.not_lowered import NotLowered
from tests.lowering.mapped import mapped

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 1000)) * 3.0
SPECIAL = np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 2.5, 0.5, -0.5])


def of_vector(function):
    """A function of (a, b, a b, a + 1) from one of a vector."""
    return lambda a, b: function(jnp.stack([a, b, a * b, a + 1.0]))


def newton_root(a, b):
    """A loop that goes on for another number of turns for each element."""

    def unfinished(carry):
        x, turns = carry
        return (jnp.abs(x * x - jnp.abs(a)) > 1e-12 * jnp.abs(a)) & (turns < 100)

    def step(carry):
        x, turns = carry
        return 0.5 * (x + jnp.abs(a) / x), turns + 1

    x, turns = lax.while_loop(unfinished, step, (1.0 + jnp.abs(b), 0))
    return x + 1000.0 * turns


def long_scan(a, b):
    """Too long to be written out; rows are read and written, backwards."""
    rows = jnp.stack([a + k * b for k in range(40)])

    def step(carry, row):
        carry = 0.9 * carry + jnp.outer(row * jnp.ones(40), jnp.ones(40))
        return carry, carry[0, 1] - row

    carry, seen = lax.scan(step, jnp.zeros((40, 40)), rows, reverse=True)
    return jnp.sum(carry[0]) + seen[3] * seen[17]


def series(a, b):
    return lax.fori_loop(0, 9, lambda k, s: s + a / (k + 1.0 + b * b), 0.0)


def scanned(a, b):
    carry, ys = lax.scan(lambda c, x: (c * 0.5 + x, c - x), a, jnp.stack([a, b, a - b]))
    return carry + ys[0] * ys[2]


def scanned_backwards(a, b):
    rows = jnp.stack([a, b, a - b])
    carry, ys = lax.scan(lambda c, x: (c * 0.5 + x, c - x), a, rows, reverse=True)
    return carry + ys[0] * ys[2]


def scan_of_nothing(a, b):
    carry, ys = lax.scan(lambda c, x: (c * x, c - x), a, jnp.zeros(0))
    return carry + b * jnp.sum(ys)


def branches(a, b):
    return lax.switch(jnp.int32(jnp.clip(a, -1, 3)), [lambda v: v, jnp.sin, lambda v: -v], b)


FUNCTIONS = {
    "arithmetic": lambda a, b: (a - b) * (a + b) / (1.0 + b * b) - -a,
    "integer-power": lambda a, b: a**3 + b**-2 + a**0,
    "remainder": lambda a, b: lax.rem(a, b),
    "power of two": lambda a, b: jnp.exp2(a) + b,
    "extremes": lambda a, b: jnp.maximum(a, b) + 2.0 * jnp.minimum(a, 0.5),
    "sign": lambda a, b: jnp.sign(a) * jnp.abs(b),
    "rounding": lambda a, b: jnp.floor(a) + 10.0 * jnp.ceil(b) + 100.0 * jnp.round(a),
    "comparison": lambda a, b: jnp.where((a < b) | (a >= 2.0) & ~(b == a), a, b),
    "clip": lambda a, b: jnp.clip(a, -1.0, 1.0) + b,
    "integers": lambda a, b: (jnp.int32(a * 10.0) // 3 + jnp.int32(b) % 7).astype(a.dtype),
    "bits": lambda a, b: (jnp.int32(a) << 3 ^ jnp.int32(b) & 5).astype(a.dtype),
    "bits of unsigned": lambda a, b: (~jnp.uint8(jnp.abs(a)) ^ jnp.uint8(3)).astype(a.dtype),
    "booleans": lambda a, b: (a > 0).astype(a.dtype) + jnp.int32(b > a),
    "finite": lambda a, b: jnp.isfinite(a) & ~jnp.isnan(b),
    "erf": lambda a, b: jax.scipy.special.erf(a) + lax.lgamma(1.0 + jnp.abs(b)),
    "sum": of_vector(lambda v: jnp.sum(v) + jnp.prod(v[1:]) + jnp.max(v) - jnp.min(v)),
    "place": of_vector(lambda v: jnp.argmax(v) + 10.0 * jnp.argmin(v)),
    "matrix": of_vector(lambda v: jnp.sum((v.reshape(2, 2) @ v.reshape(2, 2).T)[0])),
    "structure": of_vector(lambda v: jnp.sum(jnp.pad(v[::-1], 1)[1:3] * jnp.roll(v, 1)[:2])),
    "cumulative": of_vector(lambda v: jnp.cumsum(v)[2] + jnp.cumprod(v)[1]),
    "gather": of_vector(lambda v: v[jnp.array([3, 0])].sum() + v.at[2].set(7.0)[2]),
    "computed index": lambda a, b: jnp.stack([a, b, a * b])[jnp.int32(jnp.clip(b, -2, 6))],
    "narrow index": lambda a, b: lax.dynamic_slice(
        jnp.stack([a, b, a * b]), [jnp.int8(jnp.clip(b, -2, 6))], [1]
    )[0],
    "computed indices": of_vector(lambda v: v.reshape(2, 2)[jnp.int32(v[:2]) % 2].sum()),
    "computed slice": of_vector(lambda v: lax.dynamic_slice(v, [jnp.int32(2.0 * v[3])], [2])[1]),
    "polynomial": lambda a, b: jnp.polyval(jnp.array([1.0, -2.0, 0.5]), a) * b,
    "triangle": of_vector(lambda v: jnp.sum(jnp.triu(jnp.outer(v, v)))),
    "loop": newton_root,
    "series": series,
    "scan": scanned,
    "scan backwards": scanned_backwards,
    "scan of nothing": scan_of_nothing,
    "long scan": long_scan,
    "branches": branches,
    "condition": lambda a, b: lax.cond(a > b, jnp.exp, lambda v: v * v, b),
    "nested": jax.jit(lambda a, b: jax.nn.softplus(a) + jnp.hypot(a, b)),
    "derivative": jax.grad(lambda a, b: jnp.tanh(a) * jnp.exp(-b * b) + jax.nn.sigmoid(a * b)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_in_jax(name, x64):
    function = FUNCTIONS[name]
    expected = jax.vmap(function)(A, B)
    found = mapped(function, np.float64, np.float64)(A, B)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_a_matrix_product_in_another_type_is_not_lowered(x64):
    def wider(v):
        single = v.astype(jnp.float32)
        return jnp.dot(single, single, preferred_element_type=jnp.float64)

    with pytest.raises(NotLowered, match="a matrix product of mixed types"):
        mapped(of_vector(wider), np.float64, np.float64)


KNOWN = {
    # The first turn of each loop is of numbers that are known while the code is written.
    "larger than NaN": lambda a: lax.fori_loop(0, 2, lambda _, c: jnp.maximum(c, jnp.nan), 1.0),
    "smaller than NaN": lambda a: lax.fori_loop(0, 2, lambda _, c: jnp.minimum(c, jnp.nan), 1.0),
    **{
        f"{number} as {dtype.__name__}": lambda a, number=number, dtype=dtype: lax.scan(
            lambda c, _: (c, c.astype(dtype)), a.dtype.type(number), None, length=1
        )[1][0].astype(a.dtype)
        for number in (3e9, -3e9, 2.7, -2.7, 1e30, np.inf, -np.inf, np.nan)
        for dtype in (jnp.int32, jnp.uint8, jnp.int64, bool)
    },
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_numbers(name, x64):
    function = KNOWN[name]
    found = mapped(lambda a: 0.0 * a + function(a), np.float64)(np.ones(1))
    np.testing.assert_array_equal(found[0], function(np.ones(1)[0]))


OUTSIDE = jnp.array([0, 3, 4, 9])


@pytest.mark.parametrize("options", [{}, {"fill_value": 7.0}, {"mode": "clip"}, {"mode": "wrap"}])
def test_indices_outside(options, x64):
    def taken(v):
        return jnp.take(v, OUTSIDE, **options)

    for k in range(4):
        found = mapped(of_vector(lambda v, k=k: taken(v)[k]), np.float64, np.float64)(A, B)
        expected = jax.vmap(of_vector(taken))(A, B)[:, k]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [jnp.int16, jnp.uint16, bool])
@pytest.mark.parametrize("is_computed", [False, True])
def test_integers_outside(dtype, is_computed, x64):
    def taken(v):
        index = v[:1].astype(jnp.int32) + 9 if is_computed else OUTSIDE[3:]
        return jnp.take(v.astype(dtype), index)[0].astype(v.dtype)

    found = mapped(of_vector(taken), np.float64, np.float64)(np.ones(3), np.ones(3))
    np.testing.assert_array_equal(found, taken(jnp.ones(4)))


@pytest.mark.parametrize(
    "name",
    [
        "power of two",
        "extremes",
        "sign",
        "rounding",
        "comparison",
        "clip",
        "finite",
        "sum",
        "place",
    ],
)
def test_special_values(name, x64):
    function = FUNCTIONS[name]
    a, b = (v.ravel() for v in np.meshgrid(SPECIAL, SPECIAL))
    found = mapped(function, np.float64, np.float64)(a, b)
    np.testing.assert_allclose(found, jax.vmap(function)(a, b))
