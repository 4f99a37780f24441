"""A loop in a branch runs in the lanes that take the branch, for whose numbers it has an end."""

import subprocess
import sys

import pytest

PREAMBLE = """
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxlsq import fit, least_squares

jax.config.update("jax_enable_x64", True)


def steps(k):  # to 3, in steps of k: for k <= 0 without end
    def add(state):
        return state[0] + k, state[1] + 1.0

    zero = jnp.zeros_like(k)
    return lax.while_loop(lambda s: s[0] < 3.0, add, (zero, zero))[1]


def branch(t, a, k):
    count = lax.cond(k > 0, steps, jnp.zeros_like, k)
    return a * jnp.exp(-jnp.abs(k) * t) + 0.001 * count


def nested(t, a, k):
    def outer(state):
        turn, count = state
        return turn + 1.0, count + steps(jnp.abs(k) - 0.4 * turn)

    def goes(state):
        return jnp.abs(k) - 0.4 * state[0] > 0.0

    zero = jnp.zeros_like(k)
    count = lax.while_loop(goes, outer, (zero, zero))[1]
    return a * jnp.exp(-jnp.abs(k) * t) + 0.001 * count


t = np.linspace(0.0, 4.0, 30)
rates = np.array([0.56, -0.73, 1.27, -1.53])
starts = rates * np.array([1.001, 1.25, 1.05, 1.01])
counts = {
    branch: [np.ceil(3 / k) if k > 0 else 0.0 for k in rates],
    nested: [sum(np.ceil(3 / r) for r in np.arange(abs(k), 0.0, -0.4)) for k in rates],
}


def measured(model):
    return 2.0 * np.exp(-np.abs(rates)[:, None] * t) + 0.001 * np.array(counts[model])[:, None]
"""
DOORS = {
    "fit": """
result = fit(model, t, measured(model), np.stack([np.full(4, 1.9), starts], axis=-1))
assert result.engine == "compiled lanes", result.engine
assert len(set(result.nfev)) > 1, result.nfev
found = result.x
""",
    "least_squares": """
y = measured(model)
found = np.array([
    least_squares(lambda p, y: model(t, *p) - y, jnp.array([1.9, k]), args=(y,)).x
    for y, k in zip(y, starts)
])
""",
}


@pytest.mark.parametrize("model", ["branch", "nested"])
@pytest.mark.parametrize("door", DOORS)
def test_a_loop_that_ends_for_some_lanes_alone(door, model):
    check = "np.testing.assert_allclose(found, np.stack([np.full(4, 2.0), rates], -1), rtol=1e-6)"
    code = "\n".join([PREAMBLE, f"model = {model}", DOORS[door], check])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
