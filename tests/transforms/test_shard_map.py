"""`least_squares` in `jax.shard_map` with `check_vma`: values say over which devices they vary.

On four devices, in a process of its own since their number can't be changed later.
"""

import os
import subprocess
import sys

import pytest

HEAD = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax import lax
from jax.sharding import AxisType, PartitionSpec as P
from jaxlsq import least_squares
from tests.decays import T, Y
jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((4,), ("lanes",), axis_types=(AxisType.Auto,))
table = jax.make_mesh((2, 2), ("lanes", "other"), axis_types=(AxisType.Auto,) * 2)
Y = jnp.asarray(Y[:8])

def decay(p):
    return p[0] * jnp.exp(-p[1] * T)

def checked(function, mesh, **specs):
    specs = {"in_specs": P("lanes"), "out_specs": P("lanes")} | specs
    return jax.jit(jax.shard_map(function, mesh=mesh, check_vma=True, **specs))

def plain(y):
    return least_squares(lambda p: decay(p) - y, jnp.ones(2)).x

def total(fitted, y):
    return jnp.sum(fitted(y) ** 2)

def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
"""

PLAIN = """
mapped = jax.vmap(plain)
for place in (mesh, table):
    same(checked(mapped, place)(Y), jax.jit(mapped)(Y))
right = jax.grad(partial(total, mapped))(Y)
same(jax.grad(partial(total, checked(mapped, mesh)))(Y), right)
same(checked(jax.grad(partial(total, mapped)), mesh)(Y), right)
"""

OTHERS = """
def bounded(y):
    bounds = 0.0, jnp.array([9.0, 1.5])
    residual = lambda p: decay(p) - y
    return least_squares(residual, jnp.ones(2), bounds=bounds, loss="cauchy", f_scale=0.5).x

def loops(y):
    # Of which one carries what varies from its second turn on, since x0 does by `args`.
    def residual(p, y):
        v = lax.fori_loop(0, 2, lambda i, v: v - y / 2, decay(p))
        v = lax.scan(lambda c, x: (c + 0 * x, c), v, jnp.arange(3.0))[0]
        v = lax.while_loop(lambda v: jnp.sum(v) < -1e9, lambda v: v + 1.0, v)
        return lax.cond(jnp.sum(v) > 1e9, lambda v: 2 * v, lambda v: v, v)
    return least_squares(residual, jnp.ones(2), jac="2-point", args=(y,)).x

def everything(y):
    r = least_squares(lambda p: decay(p) - y, jnp.ones(2), return_history=3)
    return r.x, r.cov, r.cost, r.fun, r.jac, r.nfev, r.status, r.success, r.history.x

for one in (bounded, loops, everything):
    same(checked(jax.vmap(one), mesh)(Y), jax.jit(jax.vmap(one))(Y))
"""

SHARED = """
# What all devices have in common: its derivative is the sum over them.
def of_all(c, y):
    fitted = lambda y: least_squares(lambda p: p[0] * jnp.exp(-c * p[1] * T) - y, jnp.ones(2)).x
    return jnp.sum(jax.vmap(fitted)(y) ** 2)
specs = {"in_specs": (P(), P("lanes")), "out_specs": P()}
right = jax.grad(of_all)(1.3, Y)
summed = checked(lambda c, y: lax.psum(of_all(c, y), "lanes"), mesh, **specs)
same(jax.grad(summed)(1.3, Y), right)
inside = lambda c, y: jax.grad(lambda c: lax.psum(of_all(c, y), "lanes"))(c)
same(checked(inside, mesh, **specs)(1.3, Y), right)
# What is the same everywhere comes out as such.
same(checked(plain, mesh, in_specs=P(), out_specs=P())(Y[0]), plain(Y[0]))
"""

OWN = """
def own(y):
    return least_squares(lambda p: jax.nn.relu(p[0]) * jnp.exp(-p[1] * T) - y, jnp.ones(2)).x
try:
    checked(jax.vmap(own), mesh)(Y)
    raise AssertionError("did not raise")
except NotImplementedError as error:
    assert "custom_jvp_call" in str(error) and "check_vma=False" in str(error)
unchecked = {"in_specs": P("lanes"), "out_specs": P("lanes"), "check_vma": False}
same(jax.jit(jax.shard_map(jax.vmap(own), mesh=mesh, **unchecked))(Y), jax.vmap(own)(Y))
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "engine"),
    [(PLAIN, "lanes"), (PLAIN, "xla"), (OTHERS, "lanes"), (OTHERS, "xla"), (SHARED, "lanes"),
     (OWN, "lanes")],
    ids=["plain", "plain, xla", "others", "others, xla", "shared", "own rules"],
)  # fmt: skip
def test_what_varies_is_checked(code, engine):
    flags = "--xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAXLSQ_ENGINE": engine}
    command = [sys.executable, "-c", HEAD + code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
