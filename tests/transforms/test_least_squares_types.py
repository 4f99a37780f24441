"""Types of what goes into `least_squares` and comes out of it."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit, least_squares, leastsq

T = np.linspace(0.0, 3.0, 14, dtype=np.float32)
Y = np.asarray(2.0 * np.exp(-0.8 * T), np.float32)


def residual(p):
    a, k = jax.tree.leaves(p) if isinstance(p, (dict, tuple, list)) else p
    return a * jnp.exp(-k * T) - Y


@pytest.mark.parametrize("strict", ["standard", "strict"])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.int32, jnp.uint8, jnp.bool_])
def test_narrow_and_whole_starts(dtype, strict):
    with jax.numpy_dtype_promotion(strict):
        result = least_squares(residual, jnp.ones(2, dtype))
    is_real = jnp.issubdtype(dtype, jnp.floating)
    assert result.x.dtype == (dtype if is_real else jnp.float32)
    assert result.cost.dtype == result.fun.dtype == jnp.float32
    tolerance = float(jnp.finfo(dtype).eps) if is_real else 1e-5
    np.testing.assert_allclose(np.asarray(result.x, float), [2.0, 0.8], rtol=tolerance)
    assert result.cost < 1e-11  # not that of rounded parameters


@pytest.mark.parametrize(
    "x0",
    [{"a": 1.0, "k": 1.0}, [1, 1], (1.0, jnp.float32(1.0)), np.ones(2, "f"), jnp.ones(2)],
    ids=["dict", "list", "tuple", "numpy", "jax"],
)
@pytest.mark.parametrize("history", [0, 2])
def test_results_are_strongly_typed(x0, history):
    result = jax.eval_shape(lambda x: least_squares(residual, x, return_history=history), x0)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(result))


def test_a_loop_of_warm_starts_compiles_once_after_its_first_step():
    traces = []

    @jax.jit
    def step(x):
        traces.append(x)
        return least_squares(residual, x).x

    x = {"a": 1.0, "k": 1.0}
    for _ in range(4):
        x = step(x)
    assert len(traces) == 2  # of Python's numbers, and of results
    np.testing.assert_allclose([x["a"], x["k"]], [2.0, 0.8], rtol=1e-4)


@pytest.mark.parametrize("name", ["ftol", "xtol", "gtol", "x_scale", "max_nfev"])
@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
def test_traced_tolerances_are_refused_by_name(name, transform):
    def cost(value):
        return least_squares(residual, jnp.ones(2), **{name: value}).cost

    with pytest.raises(TypeError, match=f"`{name}` must be plain numbers, and is traced") as caught:
        transform(cost)(1e-3)
    assert len(str(caught.value)) < 250


def test_no_warnings_after_fits_in_float64():
    wide_t, wide_y = T.astype(float), Y.astype(float)

    def wide(p):
        return p[0] * jnp.exp(-p[1] * wide_t) - wide_y

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leastsq(wide, [1.0, 1.0])
        fit(lambda t, a, k: a * jnp.exp(-k * t) + 0.0 * wide_t[0], wide_t, wide_y, [1.0, 1.0])
        for solve in (least_squares, jax.jit(least_squares, static_argnums=0)):
            result = solve(wide, jnp.ones(2))
            assert result.x.dtype == jnp.float32
            np.testing.assert_allclose(result.x, [2.0, 0.8], rtol=1e-4)
