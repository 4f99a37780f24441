"""The shipped NIST figures are complete and consistent."""

import jax
import numpy as np
import pytest

from jaxlsq.datasets import NIST_NAMES, load_nist


def test_there_are_27_problems():
    assert len(NIST_NAMES) == 27


@pytest.mark.long_but("BoxBOD", "DanWood", "MGH10", "Thurber")
@pytest.mark.parametrize("name", NIST_NAMES)
def test_certified_parameters_reproduce_the_certified_figures(name):
    problem = load_nist(name)
    m, n = problem.y.size, problem.params.size
    assert problem.starts.shape == (2, n)
    assert problem.stderr.shape == (n,)
    with jax.enable_x64(True):

        def residual(params):
            return problem.model(problem.x, *params) - problem.y

        rss = float(np.sum(np.asarray(residual(problem.params)) ** 2))
        jac = np.asarray(jax.jacfwd(residual)(problem.params))
    # Lanczos1's is what eleven digits of the parameters leave over.
    assert rss == pytest.approx(problem.rss, rel=1e-8, abs=1e-18)
    variance = problem.rss / (m - n)
    stderr = np.sqrt(np.diag(np.linalg.inv(jac.T @ jac)) * variance)
    np.testing.assert_allclose(stderr, problem.stderr, rtol=1e-5)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name must be one of Bennett5.*'Nist'"):
        load_nist("Nist")
