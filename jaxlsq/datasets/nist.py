"""The NIST StRD problems of nonlinear regression.

Source: NIST/ITL Statistical Reference Datasets, nonlinear least squares regression,
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml, work of the U.S. government,
in the public domain.  ``nist.json`` holds the figures of the 27 files.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.datasets.nist_models import MODELS

__all__ = ["NIST_NAMES", "NistProblem", "load_nist"]


@dataclass(frozen=True)
class NistProblem:
    """A regression problem with certified results.

    Attributes
    ----------
    name : str
    model : callable
        ``model(x, *params) -> (m,)``, in jax.numpy.
    x : (m,) or (2, m) array
        The predictor(s).
    y : (m,) array
        The response.  Nelson's model is for the logarithm of the measured
        response, which is what is here.
    starts : (2, n) array
        The two published starting points, the far one first.
    params : (n,) array
        Certified parameters, 11 digits.
    stderr : (n,) array
        Certified standard errors of the parameters.
    rss : float
        Certified residual sum of squares.
    """

    name: str
    model: Callable[..., Any]
    x: NDArray[Any]
    y: NDArray[Any]
    starts: NDArray[Any]
    params: NDArray[Any]
    stderr: NDArray[Any]
    rss: float


NIST_NAMES = tuple(MODELS)


@cache
def _figures():
    return json.loads(resources.files("jaxlsq.datasets").joinpath("nist.json").read_text())


def load_nist(name: str) -> NistProblem:
    """A NIST StRD problem of nonlinear regression: data, starts and certified results.

    Parameters
    ----------
    name : str
        One of `NIST_NAMES`.

    Returns
    -------
    NistProblem

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> from jaxlsq.datasets import load_nist
    >>> problem = load_nist("Misra1a")
    >>> problem.y.shape, problem.params
    ((14,), array([2.38942129e+02, 5.50156432e-04]))
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(NIST_NAMES)}; got {name!r}.")
    figures = _figures()[name]
    y = np.array(figures["y"])
    return NistProblem(
        name=name,
        model=MODELS[name],
        x=np.array(figures["x"]),
        y=np.log(y) if name == "Nelson" else y,
        starts=np.array([figures["start1"], figures["start2"]]),
        params=np.array(figures["certified"]),
        stderr=np.array(figures["errors"]),
        rss=figures["rss"],
    )
