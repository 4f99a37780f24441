"""Fixtures: float64, strict promotion, and a count of compilations."""

import os

import jax
import pytest

# One thread each for NumPy's linear algebra: tests run side by side on few cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture
def x64():
    """float64 for tests that call the numerics, which follow JAX's settings, directly."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict():
    """JAX's strict promotion, under which hidden type and rank mistakes raise."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def compiles():
    """The number of XLA compilations so far, as a function."""
    events = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(events)
    events.clear()
