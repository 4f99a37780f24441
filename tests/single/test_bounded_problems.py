"""More, Garbow and Hillstrom's functions in boxes, against SciPy's trf and dogbox."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlsq import least_squares
from tests.problems.bounded import problems


def bounded_fit(fun, x0, lower, upper):
    def residual(x):
        return jnp.asarray(fun(x, jnp), float)

    return least_squares(residual, x0, bounds=(lower, upper), max_nfev=1000)


def best_of_scipy(problem):
    """The lowest cost of both methods, to their last digit."""

    def fun(x):
        return np.asarray(problem.fun(np.asarray(x, float), np), float)

    jac = jax.jit(jax.jacfwd(lambda x: jnp.asarray(problem.fun(x, jnp), float)))
    costs = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for method in ("trf", "dogbox"):
            solution = scipy.optimize.least_squares(
                fun,
                problem.x0,
                jac=lambda x: np.asarray(jac(x)),
                bounds=(problem.lower, problem.upper),
                method=method,
                **dict.fromkeys(("ftol", "xtol", "gtol"), 1e-14),
                max_nfev=2000,
            )
            costs.append(solution.cost)
    return min(costs), 0.5 * np.sum(fun(problem.x0) ** 2)


@pytest.mark.long
def test_costs_are_those_of_the_best_of_trf_and_dogbox(x64, capsys):
    fits, good, held, missed = {}, 0, 0, []
    for problem in problems():
        name = problem.name.split(" ")[0]
        if name not in fits:
            fits[name] = jax.jit(partial(bounded_fit, problem.fun))
        ours = fits[name](problem.x0, problem.lower, problem.upper)
        x = np.asarray(ours.x)
        assert np.all((x >= problem.lower) & (x <= problem.upper))
        held += bool(np.any(ours.active_mask != 0))
        best, at_start = best_of_scipy(problem)
        if ours.cost <= best * (1 + 1e-6) + 1e-14 * at_start:
            good += 1
        else:
            missed.append((problem.name, float(ours.cost), best))
    with capsys.disabled():
        print(f"\nbounded: {good} of {len(problems())} as good as SciPy's best; {missed}")
    assert len(problems()) == 72
    assert held > 40
    assert good >= 71
