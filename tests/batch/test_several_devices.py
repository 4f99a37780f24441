"""Eight devices of one host, and two processes: the same results, without a word between them.

Each in a process of its own, since the number of devices can't be changed later.
"""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from jaxlsq import fit
from tests.decays import T, Y

COMMON = """
    import re
    import jax, jax.numpy as jnp, numpy as np
    from jaxlsq import fit, least_squares
    rng = np.random.default_rng(0)
    T = np.linspace(0.0, 4.0, 40)
    Y = 2.5 * np.exp(-rng.uniform(0.5, 2.0, (4096, 1)) * T) + 0.02 * rng.normal(size=(4096, 40))
    def decay(t, a, k):
        return a * jnp.exp(-k * t)
    def one(y):
        return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T) - y, jnp.ones(2)).x
    COLLECTIVES = r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)[-(]"
"""

POOLS = """
    assert jax.device_count() == 8
    one_device = fit(decay, T, Y, [1.0, 1.0], workers=2)
    assert len(np.unique(one_device.nfev)) > 2
    eight = fit(decay, T, Y, [1.0, 1.0], devices="all")
    some = fit(decay, T, Y, [1.0, 1.0], devices=jax.devices()[5:7], workers=3)
    for other in (eight, some):
        for name in ("x", "cost", "status", "nfev"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one_device, name))
    offset = jnp.asarray(0.5)  # on the first device, and read by the model on others
    moved = lambda t, a, k: decay(t, a, k) + offset - 0.5
    near = fit(moved, T, Y[:3000], [1.0, 1.0], devices=jax.devices()[:8:7])
    np.testing.assert_allclose(near.x, one_device.x[:3000], rtol=1e-6)
    print(one_device.engine)
"""

SHARDED = """
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((8,), ("lanes",), axis_types=(AxisType.Auto,))
    expected = jax.jit(jax.vmap(one))(Y)
    placed = NamedSharding(mesh, P("lanes"))
    sharded = jax.device_put(Y, placed)
    def total(y):
        return jnp.sum(jax.vmap(one)(y) ** 2)
    for function, right in ((jax.vmap(one), expected), (jax.grad(total), jax.grad(total)(Y))):
        compiled = jax.jit(function).lower(sharded).compile()
        assert not re.search(COLLECTIVES, compiled.as_text()), "collective"
        out = compiled(sharded)
        assert out.sharding.is_equivalent_to(placed, out.ndim), out.sharding
        np.testing.assert_allclose(out, right, rtol=1e-9)
    twice = jax.jit(jax.vmap(jax.vmap(one)))
    np.testing.assert_array_equal(twice(sharded.reshape(64, 64, 40)).reshape(-1, 2), expected)
    starts = jax.device_put(np.ones((4096, 2)), placed)
    def bounded(x0, y):
        residual = lambda p: p[0] * jnp.exp(-p[1] * T) - y
        bounds = 0.0, jnp.array([9.0, 1.5])
        return least_squares(residual, x0, bounds=bounds, loss="cauchy", f_scale=0.5).x
    out = jax.jit(jax.vmap(bounded))(starts, sharded)
    assert out.sharding.is_equivalent_to(placed, 2)
    np.testing.assert_allclose(out, jax.jit(jax.vmap(bounded))(np.ones((4096, 2)), Y), rtol=1e-9)
    from jax import export
    from jaxlsq import using
    with using("xla"):
        single = export.export(jax.jit(jax.vmap(one)), platforms=["cpu", "cuda"])(Y[:64])
    np.testing.assert_allclose(export.deserialize(single.serialize()).call(Y[:64]), expected[:64])
    print("equal")
"""

PROCESSES = """
    import sys
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    address, number = sys.argv[1], int(sys.argv[2])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=number)
    jax.config.update("jax_enable_x64", True)
    assert jax.process_count() == 2 and jax.device_count() == 2 * jax.local_device_count()
    mine = slice(2048 * number, 2048 * (number + 1))
    result = fit(decay, T, Y[mine], [1.0, 1.0], devices="all")
    mesh = jax.make_mesh((jax.device_count(),), ("lanes",), axis_types=(AxisType.Auto,))
    placed = NamedSharding(mesh, P("lanes"))
    y = jax.make_array_from_process_local_data(placed, Y[mine])
    compiled = jax.jit(jax.vmap(one)).lower(y).compile()
    assert not re.search(COLLECTIVES, compiled.as_text())
    out = compiled(y)
    parts = sorted(out.addressable_shards, key=lambda shard: shard.index[0].start)
    x = np.concatenate([np.asarray(shard.data) for shard in parts])
    np.testing.assert_allclose(x, result.x, rtol=1e-6)
    np.save(sys.argv[3], result.x)
    other = [d for d in jax.devices() if d.process_index != number]
    try:
        fit(decay, T, Y[mine], [1.0, 1.0], devices=other)
    except ValueError as error:
        assert "another process" in str(error)
        print("equal")
"""


def command(code, *arguments):
    return [sys.executable, "-c", textwrap.dedent(COMMON) + textwrap.dedent(code), *arguments]


def environment(devices, engine):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAXLSQ_ENGINE": engine, "PYTHONPATH": os.getcwd()}


def printed(code, devices, engine):
    how = {"env": environment(devices, engine), "capture_output": True, "text": True}
    run = subprocess.run(command(code), **how)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.long_but("lanes")
@pytest.mark.parametrize("engine", ["lanes", "xla"])
def test_pools_on_eight_devices(engine):
    expected = {"lanes": "compiled lanes", "xla": "XLA: it was asked for"}
    assert printed(POOLS, 8, engine) == expected[engine]


@pytest.mark.long
@pytest.mark.parametrize("engine", ["lanes", "xla"])
def test_sharded_lanes_stay_where_they_are(engine):
    assert printed(SHARDED, 8, engine) == "equal"


@pytest.mark.long
@pytest.mark.parametrize("engine", ["lanes", "xla"])
def test_two_processes(tmp_path, engine):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            command(PROCESSES, address, str(number), str(tmp_path / f"{number}.npy")),
            env=environment(2, engine), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    for process in processes:
        out, error = process.communicate(timeout=300)
        assert out.strip().endswith("equal"), error
    rng = np.random.default_rng(0)
    t = np.linspace(0.0, 4.0, 40)
    y = 2.5 * np.exp(-rng.uniform(0.5, 2.0, (4096, 1)) * t) + 0.02 * rng.normal(size=(4096, 40))
    whole = fit(lambda t, a, k: a * np.exp(-k * t), t, y, [1.0, 1.0])
    parts = [np.load(tmp_path / f"{number}.npy") for number in range(2)]
    np.testing.assert_allclose(np.concatenate(parts), whole.x, rtol=1e-6)


@pytest.mark.parametrize(
    ("devices", "error", "words"),
    [
        ([], ValueError, "devices is empty"),
        ("gpu", ValueError, "devices must be 'all'"),
        ([0], TypeError, r"some of jax.local_devices\(\), got 0"),
    ],
)
def test_improper_devices(devices, error, words):
    with pytest.raises(error, match=words):
        fit(lambda t, a, k: a * np.exp(-k * t), T, Y, [1.0, 1.0], devices=devices)


def test_one_device_of_one():
    result = fit(lambda t, a, k: a * np.exp(-k * t), T, Y, [1.0, 1.0], devices=jax.devices())
    assert result.success.any()
