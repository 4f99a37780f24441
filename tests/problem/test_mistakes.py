"""Tracebacks of a caller's mistakes are of the caller's code."""

import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq
from jaxlsq import curve_fit, fit, least_squares, least_squares_batch, leastsq
from jaxlsq.batch import group
from tests.decays import P0, T, Y, decay

OURS = str(Path(jaxlsq.__file__).parent)


def frames_of(call, *arguments, **options):
    """Names of the frames of the error that a call raises, ours and others, and its message."""
    try:
        call(*arguments, **options)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        ours = [f.name for f in frames if f.filename.startswith(OURS)]
        return ours, [f.name for f in frames if not f.filename.startswith(OURS)], str(error)
    raise AssertionError("no error")


def broken(t, *params):
    return inner(t)


def inner(t):
    raise KeyError("of the model's own")


IMPROPER = {
    "p0 too short": lambda: fit(decay, T, Y, [1.0]),
    "x too short": lambda: fit(decay, T[:5], Y, P0),
    "bounds": lambda: fit(decay, T, Y, P0, bounds=([2, 0], [3, 1])),
    "sigma": lambda: fit(decay, T, Y, P0, sigma=np.zeros(T.size)),
    "ftol": lambda: fit(decay, T, Y, P0, ftol=-1.0),
    "fun": lambda: least_squares_batch(lambda p, y: None, P0, Y),
    "refit": lambda: fit(decay, T, Y[:1], P0).refit(bounds={"q": (0, 1)}),
    "residuals": lambda: least_squares(lambda p: jnp.zeros((1, 1)), jnp.ones(2)),
    "leastsq": lambda: leastsq(lambda p: p[:1], [1.0, 2.0]),
    "curve_fit": lambda: curve_fit(decay, T, Y[0, :5]),
}


@pytest.mark.parametrize("case", IMPROPER)
def test_what_is_improper_is_said_in_few_lines(case):
    ours, others, words = frames_of(IMPROPER[case])
    assert len(ours) <= 3
    assert others == ["<lambda>"]
    assert words.count("\n") <= 2


def test_an_error_of_the_model_shows_the_model():
    for call in (
        lambda: fit(broken, T, Y, P0),
        lambda: curve_fit(broken, T, Y[0], P0),
        lambda: leastsq(lambda p: broken(T, *p), P0),
        lambda: least_squares(lambda p: broken(T, *p), jnp.ones(2)),
        lambda: least_squares_batch(lambda p, y: broken(T, *p), P0, Y),
    ):
        ours, others, _ = frames_of(call)
        assert others[-2:] == ["broken", "inner"]
        assert len(ours) <= 4


def test_an_error_of_ours_keeps_its_frames(monkeypatch):
    def compile_task(*arguments):
        return {}["a mistake in the library"]

    compile_task.__code__ = compile_task.__code__.replace(co_filename=group.__file__)
    monkeypatch.setattr(group, "compile_task", compile_task)
    ours, _, _ = frames_of(fit, decay, T, Y, P0)
    assert ours[-2:] == ["solve", "compile_task"]
    assert len(ours) > 5


@pytest.fixture
def unfiltered():
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")
    yield
    jax.config.update("jax_traceback_filtering", before)


@pytest.mark.usefixtures("unfiltered")
def test_all_frames_are_there_where_jax_is_to_filter_none():
    ours, _, _ = frames_of(fit, decay, T[:5], Y, P0)
    assert len(ours) > 10
