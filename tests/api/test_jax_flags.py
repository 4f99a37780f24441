"""Every door under each of the settings that people debug JAX programs with."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import clear_cache, curve_fit, fit, least_squares, least_squares_batch, leastsq

T = np.linspace(0.0, 3.0, 16)
DEVICE_T = jnp.asarray(T)
RATES = np.array([0.5, 0.9, 1.4])
Y = 2.0 * np.exp(-RATES[:, None] * T) + 0.01 * np.cos(9.0 * T)
BOUNDS = ([0.0, 0.0], [1.9, 5.0])
# A matrix of every door takes half a minute a flag: those that found faults run always.
LONG = ("debug_infs", "debug_nans", "rank_promotion", "tracer_leaks")
FLAGS = {
    "disable_jit": ("jax_disable_jit", True),
    "debug_nans": ("jax_debug_nans", True),
    "debug_infs": ("jax_debug_infs", True),
    "transfer_guard": ("jax_transfer_guard", "disallow"),
    "rank_promotion": ("jax_numpy_rank_promotion", "raise"),
    "dtype_promotion": ("jax_numpy_dtype_promotion", "strict"),
    "tracer_leaks": ("jax_check_tracer_leaks", True),
}


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def numpy_decay(t, a, k):
    return a * np.exp(-k * t)


def residual_of(model):
    return lambda p: model(T, *p) - Y[0]


def from_single_fits():
    for name, model in (("jnp", decay), ("np", numpy_decay)):
        yield f"leastsq {name}", leastsq(residual_of(model), [1.0, 1.0])[0]
        options = {"bounds": BOUNDS, "loss": "soft_l1"}
        yield f"curve_fit {name}", curve_fit(model, T, Y[0], [1.0, 1.0], **options)
    correlated = np.eye(T.size) + 0.5 * np.eye(T.size, k=1) + 0.5 * np.eye(T.size, k=-1)
    yield "curve_fit sigma", curve_fit(decay, T, Y[0], [1.0, 1.0], sigma=correlated)


def from_batches():
    result = fit(decay, T.astype("f"), Y.astype("f"), [1.0, 1.0])
    yield "fit", (result.x, result.cov, result.stderr, result.cost)
    yield "predict", (result.predict(), result.band(T.astype("f")), result.residuals)
    guess = fit(decay, T, Y, lambda t, y: (y[0], 1.0), bounds=BOUNDS, loss="huber", sigma=0.1)
    yield "fit bounds", (guess.x, guess.cov, guess.refit().x)
    result = least_squares_batch(lambda p, y: decay(T, *p) - y, [1.0, 1.0], Y)
    yield "least_squares_batch", (result.x, result.cov)


def solve(y, **options):
    # Data of the parameters' type, as strict promotion wants them.
    t = DEVICE_T.astype(y.dtype)
    return least_squares(lambda p: decay(t, p[0], p[1]) - y, np.ones(2, y.dtype), **options)


def rate(y):
    bounds = tuple(np.asarray(b, np.float32) for b in BOUNDS)
    return solve(y, bounds=bounds, loss="cauchy", f_scale=0.5).x[1]


def from_programs():
    y = jax.device_put(np.asarray(Y, np.float32))
    first = jax.device_put(np.asarray(Y[0], np.float32))
    result = solve(first)
    yield "least_squares", (result.x, result.cov)
    yield "vmap", jax.jit(jax.vmap(rate))(y)
    yield "vmap of grad", jax.jit(jax.vmap(jax.grad(rate)))(y)
    # `grad` itself makes its one on the host, which JAX's guard forbids for any function.
    _, pull = jax.vjp(lambda y: solve(y).x, first)
    yield "eager vjp", pull(jax.device_put(np.ones(2, np.float32)))
    yield "history", solve(first, return_history=3).history.x


def doors():
    """What comes out of each door, flat."""
    found = {}
    for group in (from_single_fits, from_batches, from_programs):
        for name, value in group():
            found[name] = [np.asarray(leaf) for leaf in jax.tree.leaves(value)]
    return found


@pytest.fixture(scope="module")
def plain():
    return doors()


@pytest.mark.long
@pytest.mark.parametrize(
    "flag", [pytest.param(f, marks=pytest.mark.long if f in LONG else ()) for f in FLAGS]
)
def test_every_door_gives_the_same_under(plain, flag):
    name, value = FLAGS[flag]
    before = getattr(jax.config, name)
    clear_cache()  # a program compiled under other settings would hide a mistake
    jax.config.update(name, value)
    try:
        found = doors()
    finally:
        jax.config.update(name, before)
    assert found.keys() == plain.keys()
    for door, values in found.items():
        for one, other in zip(values, plain[door], strict=True):
            assert one.dtype == other.dtype, door
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7, err_msg=door)


def test_user_function_in_python_sees_the_users_own_settings():
    seen = []

    def residual(p):
        seen.append((jax.config.jax_debug_nans, jax.config.jax_numpy_rank_promotion))
        return numpy_decay(T, *np.asarray(p)) - Y[0]

    with jax.debug_nans(True), jax.numpy_rank_promotion("raise"):
        leastsq(residual, [1.0, 1.0])
    assert len(seen) > 5
    assert set(seen) == {(True, "raise")}


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import jax, numpy as np
from test_jax_flags import doors
assert len(jax.devices()) == {devices}
with jax.default_device(jax.devices()[{default}]):
    found = {{f"{{k}}|{{j}}": v for k, vs in doors().items() for j, v in enumerate(vs)}}
np.savez({out!r}, **found)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("devices", "default", "x64"),
    [
        pytest.param(8, 0, False, marks=pytest.mark.long),
        (8, 5, False),
        pytest.param(1, 0, True, marks=pytest.mark.long),
    ],
)
def test_every_door_in_another_process(plain, tmp_path, devices, default, x64):
    out = str(tmp_path / "found.npz")
    folder = str(Path(__file__).parent)
    code = PROGRAM.format(folder=folder, devices=devices, default=default, out=out)
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": str(int(x64)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = np.load(out)
    for door, values in plain.items():
        for j, value in enumerate(values):
            np.testing.assert_allclose(
                found[f"{door}|{j}"], value, rtol=1e-5, atol=1e-7, err_msg=door
            )
