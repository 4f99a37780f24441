"""One fit compiles kernel by kernel: what XLA makes of it grows no faster than its text."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import least_squares

T = np.linspace(0.0, 10.0, 100)


def peaks(p, count):
    value = p[-1] + 0.0 * T
    for k in range(count):
        a, center, width = p[3 * k : 3 * k + 3]
        value = value + a * jnp.exp(-jnp.square((T - center) / width))
    return value


def example(count):
    centers = np.linspace(1.0, 9.0, count)
    truth = np.append(np.stack([0 * centers + 2, centers, 0 * centers + 0.4], axis=1), 0.3)
    y = np.asarray(peaks(jnp.asarray(truth), count))
    rng = np.random.default_rng(0)
    return y, truth, truth * (1 + 0.03 * rng.normal(size=truth.size))


def solver(count, **options):
    return jax.jit(lambda y, x0: least_squares(lambda p: peaks(p, count) - y, x0, **options).x)


def kernels(text):
    """Lines of HLO in each function that LLVM compiles as one, of those that XLA calls small."""
    functions = {
        match[1]: part
        for part in re.split(r"\n(?=%|ENTRY)", text)
        if (match := re.match(r"(?:ENTRY )?(%[\w.\-]+) ", part))
    }
    named = r"(?:calls|to_apply|body|condition|(?:true|false)_computation)=(%[\w.\-]+)"

    def size(name):
        part = functions[name]
        return part.count("\n") + sum(map(size, re.findall(named, part)))

    calls = re.findall(r"to_apply=(%[\w.\-]+).*xla_cpu_small_call", text)
    return [size(name) for name in calls]


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"bounds": (0.0, 20.0)}, {"return_history": 3}], ids=str)
def test_no_kernel_holds_the_whole_fit(options):
    count = 4
    y, truth, x0 = example(count)
    compiled = solver(count, **options).lower(jnp.asarray(y), jnp.asarray(x0)).compile()
    assert max(kernels(compiled.as_text()), default=0) < 1000
    np.testing.assert_allclose(compiled(jnp.asarray(y), jnp.asarray(x0)), truth, rtol=1e-3)
