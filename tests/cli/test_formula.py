"""Formulas: what they compute, what is none, and what must not come through."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxlsq import fit
from jaxlsq.cli.formula import FUNCTIONS, MOST_CHARACTERS, parse

X = np.linspace(0.1, 2.0, 40)

# A formula, its parameters, and NumPy's value.
VALUES = {
    "a*exp(-b*x) + c": lambda x, a, b, c: a * np.exp(-b * x) + c,
    "1/2*a*x": lambda x, a: 0.5 * a * x,
    "a*x^2 + b": lambda x, a, b: a * x**2 + b,
    "-x**2*a": lambda x, a: -(x**2) * a,
    "a*x^b^2": lambda x, a, b: a * x ** (b**2),
    "a*(x - b)**-3": lambda x, a, b: a * (x - b) ** -3.0,
    "a*x % 0.25": lambda x, a: (a * x) % 0.25,
    "+a*sin(2*pi*x)": lambda x, a: a * np.sin(2 * np.pi * x),
    "a*cos(π*x)": lambda x, a: a * np.cos(np.pi * x),
    "where(x < b, a, c*x)": lambda x, b, a, c: np.where(x < b, a, c * x),
    "a if x < b else c*x": lambda x, a, b, c: np.where(x < b, a, c * x),
    "a*(0.5 < x < b)": lambda x, a, b: a * ((x > 0.5) & (x < b)),
    "a*(x > 1 and not x > b or x == 0.1)": lambda x, a, b: a * (((x > 1) & ~(x > b)) | (x == 0.1)),
    "1 - (x >= a)": lambda x, a: 1.0 - (x >= a),
    "erf(a*x) + erfc(x) + ln(x)": lambda x, a: special.erf(a * x) + special.erfc(x) + np.log(x),
    "atan2(a, x) + arctan(x) + hypot(x, a)": lambda x, a: (
        np.arctan2(a, x) + np.arctan(x) + np.hypot(x, a)
    ),
    "max(x, a) - min(x, a)": lambda x, a: np.maximum(x, a) - np.minimum(x, a),
    "abs(x - τ)*γ_0": lambda x, t, g: np.abs(x - t) * g,
    "a *\n  x": lambda x, a: a * x,
}


@pytest.mark.parametrize("text", VALUES)
def test_a_formula_is_its_numpy_value(text, x64):
    model, reference = parse(text), VALUES[text]
    params = 1.3 + 0.4 * np.arange(len(model.names))
    expected = np.broadcast_to(reference(X, *params), X.shape)
    np.testing.assert_allclose(model(X, *params), expected, rtol=1e-13, atol=1e-15)
    named = model(X, **dict(zip(model.names, params, strict=True)))
    np.testing.assert_array_equal(named, model(X, *params))


@pytest.mark.parametrize("name", [name for name, count in FUNCTIONS.items() if count == 1])
def test_functions_are_those_of_their_names(name, x64):
    others = {"ln": np.log, "erf": special.erf, "erfc": special.erfc}
    reference = others.get(name) or getattr(np, name)
    x = X / 2.1 if "cosh" not in name else 1 + X
    np.testing.assert_allclose(parse(f"a*{name}(x)")(x, 2.0), 2.0 * reference(x), rtol=1e-13)


def test_parameters_are_in_the_order_of_the_text():
    assert parse("d*x if b*x > 1 else c + a").names == ("d", "b", "c", "a")
    assert parse("b*x + a*x + b").names == ("b", "a")
    assert parse("µ*x").names == ("μ",)  # the micro sign, and the Greek letter


def test_whole_powers_are_products(x64):
    """Which have a derivative at zero and below, as a power by a logarithm has not."""
    model = parse("a*x**2 + x^3.0 + x**-1")
    slope = jax.vmap(jax.grad(model), (0, None))(jnp.array([-2.0, -1.0, 3.0]), 2.0)
    x = np.array([-2.0, -1.0, 3.0])
    np.testing.assert_allclose(slope, 4 * x + 3 * x**2 - x**-2.0)
    assert "pow" not in str(jax.make_jaxpr(parse("a*x**2"))(1.0, 2.0)).replace("integer_pow", "")


def test_single_precision_stays_single(x64):
    model = parse("a*exp(-x/2) + where(x > 1, 1/3, c) + pi*x**2")
    assert model(X.astype(np.float32), *np.ones(2, np.float32)).dtype == np.float32


def test_a_fit_of_a_formula_is_that_of_a_function():
    rng = np.random.default_rng(3)
    y = 2.0 * np.exp(-1.5 * X) + 0.3 + 0.01 * rng.normal(size=(20, X.size))
    model = parse("a*exp(-b*x) + c")
    one = fit(model, X, y, {"a": 1.0, "b": 1.0, "c": 0.0})
    two = fit(lambda x, a, b, c: a * jnp.exp(-b * x) + c, X, y, [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(one.x, two.x)
    assert one.names == two.names == ("a", "b", "c")
    assert one.engine == two.engine
    np.testing.assert_allclose(one.predict(), two.predict())


# What has been used to get from a formula to the interpreter, or to make it hang.
ESCAPES = (
    "__import__('os').system('true')*x",
    "().__class__.__base__.__subclasses__()",
    "(1).__class__*x",
    "x.__array_interface__",
    "a.real*x",
    "exp.__globals__",
    "exp.__call__(x)",
    "__builtins__*x",
    "__name__*x",
    "_a*x",
    "getattr(x, a)",
    "eval(x)",
    "exec(x)",
    "open(x)",
    "print(x)",
    "globals()*x",
    "type(x)(a)",
    "lambda: x",
    "(lambda: x)()",
    "[x for a in x]",
    "sum(x for a in x)",
    "{a: x for a in x}",
    "(a := x)",
    "f'{x}'",
    "f'{x!r:{a}}'",
    "'x'*a",
    "b'x'*a",
    "x[0]",
    "x[a:b]",
    "[x][0]",
    "(x, a)",
    "x, a",
    "{x}",
    "{a: x}",
    "exp(*x)",
    "exp(**x)",
    "exp(x, out=a)",
    "where(x > 0, a)",
    "exp()(x)",
    "exp(exp)(x)",
    "exp",
    "a*exp",
    "x @ a",
    "x // a",
    "x << 9",
    "x & a",
    "~x",
    "a in x",
    "a is x",
    "True*x",
    "None",
    "...",
    "1j*x",
    "x if a else 1",
    "not x",
    "x and a",
    "await x",
    "yield x",
    "x; a",
    "x\x00a",
    "a*x)+(b",
    "a*x # + b",
    "import os",
    "x = a",
    "del x",
    "еxp(x)",  # Cyrillic
    "a*х",
    "ａ.__class__",  # full width
    "x․real",  # a dot that normal form makes a dot of
    "exp(x)\N{NO-BREAK SPACE}.real",
    "9**9**9**9*x",
    "x*10**400",
    "x*1e999",
    f"x*{'1' * 400}",
    f"x*{'1' * 5000}",
    "x/(1 - 1)",
    "x*(-8)**(1/3)",
    "x*(0*1e308*10)**-1",
    "-" * 5000 + "x",
    "(" * 5000 + "x" + ")" * 5000,
    "(" * 150 + "x*a" + ")" * 150 + "+exp(" * 90 + "x" + ")" * 90,
    "x" + "+x" * 4000,
    "exp(" * 150 + "x*a" + ")" * 150,
    "not " * 2000 + "(x > a)",
    "x" + "*x" * 10**6,
    "a" * 10**6,
    "",
    " ",
    "x",
    "a",
    "2*x",
    "2x",
    "a x",
    "a(x)",
    "a*x²",
)


@pytest.mark.parametrize("text", ESCAPES, ids=lambda text: ascii(text[:30]))
def test_what_is_no_formula_is_an_error_at_once(text):
    begin = time.process_time()
    with pytest.raises(ValueError, match="formula") as caught:
        parse(text)
    assert time.process_time() - begin < 1.0
    assert len(str(caught.value)) < 600
    assert "Traceback" not in str(caught.value)


def test_what_is_no_text_is_an_error():
    with pytest.raises(TypeError, match="a formula must be a text, got int"):
        parse(3)


def test_other_letters_of_the_same_name_are_that_name(x64):
    """Python's parser takes full-width letters for plain ones; the whitelist is asked after it."""
    assert float(parse("ｅｘｐ(a*x)")(1.0, 1.0)) == pytest.approx(np.e)
    with pytest.raises(ValueError, match="no function of a formula"):
        parse("ｅｖａｌ(a*x)")


def test_errors_say_what_to_write():
    for text, words in {
        "a*np.exp(x)": r"Functions go without a module: exp\(\.\.\.\)",
        "a*expp(x)": "Did you mean exp",
        "a(x - b)": r"A product is written a\*\(",
        "2x": r"Products have a star: 2\*x",
        "a": r"does not have the variable x in it; its names are a\. A constant is",
        "exp + x": r"exp is a function, and no parameter's name; write exp\(",
        "a*x + b if x else 0": "a condition is expected, such as x > 0",
    }.items():
        with pytest.raises(ValueError, match=words):
            parse(text)


def test_a_long_sum_is_read_to_its_limit(x64):
    text = " + ".join(f"a{i}*exp(-((x - b{i})/c{i})**2)" for i in range(30))
    assert len(parse(text).names) == 90
    assert len(text) < MOST_CHARACTERS
    assert np.isfinite(parse(text)(X, *np.linspace(1, 2, 90))).all()


def test_the_longest_chain_is_fitted():
    model = parse("a*x" + " + b*x**2" * 95)
    y = np.outer([1.0, 2.0], X) + 95 * X**2
    np.testing.assert_allclose(fit(model, X, y, [1.0, 0.0]).x, [[1.0, 1.0], [2.0, 1.0]])


def test_any_text_is_a_formula_or_an_error():
    """Texts made of pieces of formulas and of Python's grammar."""
    parts = ["x", "a", "b_1", "μ", "2", "1.5", "pi", "exp(x)", "(a-x)", "max(a,x)"]
    signs = ["+", "-", "*", "/", "%", "**", "^", "<", "==", " and ", " if x>1 else "]
    others = [
        "(",
        ")",
        ",",
        "not",
        ".",
        "[",
        "]",
        ":",
        ":=",
        "lambda",
        "'",
        "@",
        "~",
        "=",
        "in",
        "__class__",
        "where",
        "exp",
        "\n",
    ]
    rng, formulas = np.random.default_rng(0), 0
    for length in rng.integers(1, 6, 3000):
        words = [w for _ in range(length) for w in (rng.choice(parts), rng.choice(signs))][:-1]
        if rng.random() < 0.5:
            words.insert(int(rng.integers(0, len(words) + 1)), rng.choice(others))
        text = "".join(words)
        try:
            model = parse(text)
        except ValueError:
            continue
        formulas += 1
        assert "x" not in model.names
        assert not [name for name in model.names if name.startswith("_")]
        assert not set("[]:'@~") & set(text), text
    assert 300 < formulas < 2000
