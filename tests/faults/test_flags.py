"""Settings of JAX that people debug with: every door gives the same, to the bit."""

import functools
from contextlib import ExitStack

import jax
import numpy as np
import pytest

from jaxlsq import clear_cache, fit
from tests.faults.doors import DOORS, P0, T, Y, called

FLAGS = {
    "disable_jit": lambda: jax.disable_jit(True),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "tracer_leaks": lambda: jax.check_tracer_leaks(True),
    "x64": lambda: jax.enable_x64(True),
}


@functools.cache
def plain(door):
    assert not jax.config.jax_enable_x64
    return called(door)


def check(door, flags):
    expected = plain(door)
    clear_cache()  # a program compiled under other settings would hide a mistake
    with ExitStack() as stack:
        for flag in flags:
            stack.enter_context(FLAGS[flag]())
        found = called(door)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.long_but("linear", "xsigma", "profile", "bootstrap", "xarray", "command")
@pytest.mark.parametrize("door", DOORS)
def test_all_flags_at_once(door):
    check(door, FLAGS)


@pytest.mark.long
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("door", DOORS)
def test_each_flag(door, flag):
    check(door, [flag])


class Mine(Exception):
    pass


@pytest.mark.parametrize("options", [{}, {"shared": ["a"]}], ids=["fit", "shared"])
def test_an_error_of_the_users_is_no_leak(options):
    def raising(t, a, k):
        raise Mine

    with jax.check_tracer_leaks(True), pytest.raises(Mine):
        fit(raising, T, Y, P0, **options)


@pytest.mark.long
def test_a_leak_of_the_users_is_found():
    kept = []

    def leaking(t, a, k):
        kept.append(a * t)
        return kept[-1] - k

    with jax.check_tracer_leaks(True), pytest.raises(Exception, match="Leaked trac"):
        fit(leaking, T, Y, P0)
