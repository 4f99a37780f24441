"""MINPACK's 53 standard cases: the same exits and counts as SciPy's MINPACK.

Some cases can't be compared: rounding decides their path or their exit.  A quantity of a
case (exit code, counts, final norm) is called *stable* when SciPy's own answer keeps it
under one-ulp noise in the values of the function and, for every other of 24 seeds, in its
argument as well.
Every stable quantity must agree; of all 53, at least as many as here is set, which is about
what SciPy agrees with itself under that noise.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import leastsq as scipy_leastsq

from jaxlsq import leastsq
from tests.problems.mgh import CASES

SEEDS = 24
QUANTITIES = ("ier", "nfev", "njev", "norm")


def outcome(solver, func, jac, x0):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        _, _, info, _, ier = solver(func, x0, Dfun=jac, full_output=True)
    return ier, info["nfev"], info.get("njev"), float(np.linalg.norm(info["fvec"]))


def agreement(one, two):
    same = [a == b for a, b in zip(one[:3], two[:3], strict=True)]
    return np.array([*same, abs(one[3] - two[3]) <= 1e-8 * abs(one[3])])


def with_noise(function, seed):
    rng = np.random.default_rng(seed)

    def ulp(v):
        return v * (1 + np.finfo(float).eps * rng.choice([-1, 0, 1], size=v.shape))

    return lambda x: ulp(function(ulp(x) if seed % 2 else x))


def functions(case, with_jacobian):
    def func(x):
        return np.asarray(case.fun(np.asarray(x, float), np))

    if not with_jacobian:
        return func, None
    compiled = jax.jit(jax.jacfwd(lambda x: case.fun(x, jnp)))
    return func, lambda x: np.asarray(compiled(np.asarray(x, float)))


@pytest.mark.long
@pytest.mark.parametrize(
    ("with_jacobian", "least_ier", "least_nfev"), [(True, 44, 44), (False, 48, 33)]
)
def test_standard_cases_against_scipy(x64, with_jacobian, least_ier, least_nfev, capsys):
    agreed, broken = np.zeros(4, int), []
    for case in CASES:
        func, jac = functions(case, with_jacobian)
        reference = outcome(scipy_leastsq, func, jac, case.x0)
        ours = outcome(leastsq, func, jac or "2-point", case.x0)
        same = agreement(reference, ours)
        agreed += same
        differs = ~same
        for seed in range(SEEDS):
            if not differs.any():
                break
            noisy_jac = jac and with_noise(jac, 1000 + seed)
            noisy = outcome(scipy_leastsq, with_noise(func, seed), noisy_jac, case.x0)
            differs &= agreement(reference, noisy)  # what is stable
        if differs.any():
            broken.append((case.name, dict(zip(QUANTITIES, differs, strict=True)), reference, ours))
    with capsys.disabled():
        print(
            f"\nMGH {'Dfun' if with_jacobian else '2-point'}: of {len(CASES)} cases "
            f"{dict(zip(QUANTITIES, map(int, agreed), strict=True))} agree with SciPy"
        )
    assert not broken
    assert agreed[0] >= least_ier
    assert agreed[1] >= least_nfev


@pytest.mark.long
def test_compiled_fits_agree_with_host_fits(x64):
    """The same cases through the compiled path: automatic derivatives, traced functions."""
    ier = nfev = 0
    for case in CASES[::3]:
        func, jac = functions(case, True)
        on_host = outcome(leastsq, func, jac, case.x0)
        compiled = outcome(leastsq, lambda x, case=case: case.fun(x, jnp), None, case.x0)
        ier += on_host[0] == compiled[0]
        nfev += abs(on_host[1] - compiled[1]) <= 1
    assert ier >= len(CASES[::3]) - 4
    assert nfev >= len(CASES[::3]) - 4
