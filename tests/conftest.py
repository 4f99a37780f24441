"""Fixtures: float64, strict promotion, and a count of compilations."""

import gc
import os
import resource
import signal
from pathlib import Path

# One thread each for NumPy's linear algebra: tests run side by side on few cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import pytest

import jaxlsq
from jaxlsq.lowering import engine
from jaxlsq.tracing.cache import pieces

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Files of few tests that take long: they are run beside others, and not alone at the end, as
# examples in docstrings may be.
FIRST = ("test_examples.py", "test_notebooks.py", "test_pages.py", "test_several_devices.py")


def pytest_configure(config):
    """xdist keeps the order of files; by itself it begins with those of most tests."""
    config.option.loadscopereorder = False


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(name):
    """``long_but`` names ids that there are: one that is misspelt would make all long."""
    made = yield
    for item in made[:1] if isinstance(made, list) else ():
        mark = item.get_closest_marker("long_but")
        ids = {one.callspec.id for one in made if hasattr(one, "callspec")}
        if mark and not ids.issuperset(mark.args):
            unknown = sorted(set(mark.args) - ids)
            raise pytest.UsageError(f"long_but of {name} names {unknown}, ids are {sorted(ids)}")
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The order of files; of a test with ``long_but``, parameters that are not named are long."""
    items.sort(key=lambda item: (item.path.name not in FIRST, isinstance(item, pytest.DoctestItem)))
    for item in items:
        mark = item.get_closest_marker("long_but")
        if mark and item.callspec.id not in mark.args:
            item.add_marker(pytest.mark.long)


@pytest.fixture(autouse=True)
def forgotten():
    """What tests have compiled is forgotten where it is too much for one process."""
    yield
    if MEMORY.is_full():
        forget()


def forget():
    """Forget all that was compiled."""
    jaxlsq.clear_cache()
    jax.clear_caches()
    gc.collect()
    MEMORY.begin = MEMORY.resident()


class Memory:
    """What compiled programs take, as Linux tells it; elsewhere it is always too much."""

    # In bytes since all was forgotten: a large heap makes all else slow.
    MOST = 1 << 30
    # Pieces: the system grants 65,530, a program has a hundred, and without more LLVM aborts.
    MOST_PIECES = 30_000
    begin = 0

    def resident(self):
        """Bytes that are in memory."""
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except OSError:
            return self.begin + 2 * self.MOST
        return pages * resource.getpagesize()

    def is_full(self):
        """Whether to forget."""
        if self.resident() > self.begin + self.MOST:
            return True
        return pieces() > self.MOST_PIECES


MEMORY = Memory()


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


@pytest.fixture(scope="module")
def fresh():
    """Nothing of other files is compiled."""
    forget()


@pytest.fixture
def compiles(fresh, monkeypatch):
    """The number of compilations so far, of XLA and of compiled lanes, as a function."""
    events = []
    compile_text = engine.compile_text

    def counted(*arguments):
        events.append("lanes")
        return compile_text(*arguments)

    monkeypatch.setattr(engine, "compile_text", counted)

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(events)
    events.clear()
