"""The key of the program cache: a test per ingredient, and no wrong hit."""

import gc
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq
from jaxlsq import curve_fit, fit, least_squares, leastsq
from jaxlsq.tracing import cache
from jaxlsq.tracing.cache import PROGRAMS, ProgramCache, program_key
from jaxlsq.tracing.structure import Unkeyable, _frozen
from jaxlsq.tracing.trace import trace, with_fixed_literals

T = np.linspace(0.1, 4.0, 30)


@pytest.fixture(autouse=True)
def empty_cache():
    jaxlsq.clear_cache()


def decay(t, a, k):
    return a * jnp.exp(-k * t)


def cauchy(scale):
    def rho(z):
        w = 1 / (1 + z / scale)
        return scale * jnp.log1p(z / scale), w, -w * w / scale

    return rho


def noisy():
    y = 2.5 * np.exp(-1.3 * T)
    y[3] += 4.0
    return y


def by_curve_fit(loss, **options):
    return curve_fit(decay, T, noisy(), [1.0, 1.0], method="trf", loss=loss, **options)[0]


def test_a_loss_that_reads_a_changed_global(compiles):
    scale = [1.0]

    def rho(z):
        return cauchy(scale[0])(z)

    got = [by_curve_fit(rho)]
    before = compiles()
    for value in (0.01, 0.3):
        scale[0] = value
        got.append(by_curve_fit(rho))
    assert len(PROGRAMS) == 1
    assert compiles() == before
    for value, p in zip((1.0, 0.01, 0.3), got, strict=True):
        expected = by_curve_fit("cauchy", f_scale=np.sqrt(value))
        np.testing.assert_allclose(p, expected, rtol=1e-6)
    assert abs(got[0][0] - got[1][0]) > 1e-3


def test_an_array_that_a_loss_reads_is_data():
    weights = np.ones(30)
    weights[3] = 0.0

    def rho(z):
        w = jnp.asarray(weights)
        return w * z, w, 0 * z

    np.testing.assert_allclose(by_curve_fit(rho), [2.5, 1.3], rtol=1e-6)
    weights[:] = 1.0
    np.testing.assert_allclose(by_curve_fit(rho), by_curve_fit("linear"), rtol=1e-4)
    assert len(PROGRAMS) == 2


@pytest.mark.long
@pytest.mark.parametrize("f_scale", [np.ones(30), np.full(30, 0.5)])
def test_another_shape_of_f_scale(f_scale):
    number = by_curve_fit("huber", f_scale=f_scale[0])
    np.testing.assert_allclose(by_curve_fit("huber", f_scale=f_scale), number, rtol=1e-9)


def test_another_default_device():
    devices = jax.devices()
    keys = set()
    for device in devices:
        with jax.default_device(device):
            keys.add(program_key((), "single", (), (T,)))
    keys.add(program_key((), "single", (), (T,)))
    assert len(keys) == len(devices) + 1


def test_another_precision_of_products():
    with jax.default_matmul_precision("highest"):
        one = program_key((), "single", (), (T,))
    assert one != program_key((), "single", (), (T,))


@pytest.mark.parametrize(
    "other",
    [
        (T[:20],),
        (T.astype(np.float32),),
        (T, T),
        {"x": T},
        (jnp.asarray(T.astype(np.float32)),),
        (T[:, None],),
    ],
)
def test_what_it_is_called_with(other):
    assert program_key((), "single", (), (T,)) != program_key((), "single", (), other)


def test_weak_types_placement_options_and_kind():
    strong, weak = jnp.zeros(()), jnp.add(1.0, 1.0)
    keys = {
        program_key((), kind, (), (v,), options)
        for kind in ("single", "pool")
        for v in (np.float32(0), strong, weak)
        for options in (None, {"xla_cpu_multi_thread_eigen": False})
    }
    assert weak.weak_type
    assert not strong.weak_type
    assert len(keys) == 12


def test_partials_by_their_parts_and_arrays_by_content():
    assert _frozen(partial(jnp.add, 1)) != _frozen(partial(jnp.add, 2))
    assert _frozen(partial(jnp.add, 1)) != _frozen(partial(jnp.subtract, 1))
    assert _frozen(np.arange(3)) != _frozen(np.arange(1, 4))
    assert _frozen(np.arange(3)) == _frozen(np.arange(3))
    assert _frozen(1) != _frozen(True)
    assert _frozen(0.0) != _frozen(-0.0)


class Opaque:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize("value", [Opaque(1), lambda x: x, object(), jnp.arange(3), {1: Opaque(2)}])
def test_values_of_unknown_kinds_are_refused(value):
    with pytest.raises(Unkeyable):
        _frozen(value)


@pytest.mark.parametrize("value", [1.5, np.float64(1.5)])
def test_a_number_of_a_batch_compiles_once_more_at_its_second_value(value, compiles):
    def fitted(z):
        x = fit(lambda t, a, k: a * jnp.exp(-k * t * z), T, noisy()[None], [1.0, 1.0]).x[0]
        return x[0], x[1] * z

    expected = fitted(type(value)(1.0))
    fitted(value)
    before = compiles()
    for z in (0.7, 1.1, 1.7):
        np.testing.assert_allclose(fitted(type(value)(z)), expected, rtol=1e-4)
    assert compiles() == before


def test_only_numbers_that_vary_become_data(x64):
    def traced(z):
        return with_fixed_literals(trace(lambda x: (2.0 * jnp.exp(-z * x) + 0.25,), np.ones(3)))

    first, second, third = traced(0.5), traced(0.75), traced(1.25)
    assert first.hoisted.sum() == 0
    assert second.hoisted.sum() == third.hoisted.sum() == 1
    assert second.key == third.key != first.key
    assert abs(third.data[1]) == [1.25]


def test_numbers_of_least_squares_are_data_at_their_second_value(compiles):
    y = jnp.asarray(2.5 * np.exp(-1.3 * T), jnp.float32)

    def fitted(z):
        return least_squares(lambda p: p[0] * jnp.exp(-p[1] * T * z) - y, jnp.ones(2)).x[1] * z

    for z in (1.0, 1.5):
        fitted(z)
    size = len(PROGRAMS)
    for z in (0.7, 1.1, 1.7):
        np.testing.assert_allclose(fitted(z), 1.3, rtol=1e-3)
    assert len(PROGRAMS) == size


def test_threads_that_ask_for_one_program_compile_it_once():
    cache, made, barrier = ProgramCache(size=4), [], threading.Barrier(8)
    slow = threading.Event()

    def compile_():
        slow.wait(0.1)
        made.append(threading.get_ident())
        return "program"

    def ask():
        barrier.wait()
        assert cache.get("key", compile_) == "program"

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_compilation_that_fails_is_tried_again():
    cache = ProgramCache(size=4)

    def fails():
        raise ValueError("once")

    with pytest.raises(ValueError, match="once"):
        cache.get("key", fails)
    assert cache.get("key", lambda: "program") == "program"


def test_clear_cache_forgets_programs():
    leastsq(lambda p: decay(T, *p) - noisy(), [1.0, 1.0])
    assert len(PROGRAMS) == 1
    jaxlsq.clear_cache()
    assert len(PROGRAMS) == 0
    p = leastsq(lambda p: decay(T, *p) - noisy(), [1.0, 1.0])[0]
    assert len(PROGRAMS) == 1
    np.testing.assert_allclose(p, curve_fit(decay, T, noisy(), [1.0, 1.0])[0], rtol=1e-9)


@pytest.mark.long
@pytest.mark.skipif(not cache.pieces(), reason="of Linux")
def test_programs_are_dropped_before_a_process_has_too_many_pieces(monkeypatch):
    """Of many lengths, of which XLA's programs each have one."""
    gc.collect()
    before = cache.pieces()

    def fitted(m):
        t = np.linspace(0.0, 4.0, m)
        with jaxlsq.using("xla"):
            found = fit(decay, t, 2.0 * np.exp(-t), [1.0, 0.5])
        np.testing.assert_allclose(found.x, [2.0, 1.0], rtol=1e-6)
        return cache.pieces() - before

    each = fitted(40)
    assert each > 30
    monkeypatch.setattr(cache, "MOST_PIECES", before + 2 * each)
    assert max(fitted(m) for m in range(41, 46)) < 4 * each
