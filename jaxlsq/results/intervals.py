"""Intervals of the parameters of fits: Wald's, and those of the profile likelihood."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxlsq.problem.checks import check_known
from jaxlsq.problem.names import unknown_name
from jaxlsq.results.contour import SIGMAS, Contour, contour_of
from jaxlsq.results.profile import Profile, profiled, times
from jaxlsq.results.search import usable

__all__ = ["Intervals", "check_level", "numbers_of"]

METHODS = ("wald", "profile")


class Intervals:
    """The intervals of a `FitResult`."""

    x: NDArray[Any]
    status: NDArray[Any]
    names: tuple[str, ...]

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        @cached_property
        def cov(self) -> NDArray[Any]: ...
        def _one(self, index: Any, what: str) -> Any: ...

    def interval(
        self,
        level: float = 0.95,
        params: str | int | Sequence[str | int] | None = None,
        method: str = "wald",
    ) -> NDArray[Any]:
        r"""Intervals that hold the true parameters with a probability.

        .. math:: \theta \pm t\, \sigma_\theta \quad \text{or} \quad
                  \{\theta : \chi^2(\theta) \le \chi^2_{min} + t^2 s^2\},
                  \quad s^2 = \chi^2_{min} / \nu

        with :math:`\nu` degrees of freedom and t of Student's distribution; with
        ``absolute_sigma`` and of counts :math:`s^2` is one and t that of the normal one.

        Parameters
        ----------
        level : float
            The probability.
        params : names or numbers, optional
            Of which parameters; all, in the order of the model, if not given.
        method : {'wald', 'profile'}
            'wald' is of the standard errors, and exact for a model that is linear in its
            parameters.  'profile' is of the least cost for each value of a parameter, found by
            further fits; exact too where some function of the parameter would be linear, and see
            `profile`.

        Returns
        -------
        (..., k, 2) float64 array
            Lower and upper ends.  The value itself, twice, of fixed parameters, and with 'wald'
            also of those at a bound, whose standard error is zero; infinite ends of parameters
            that the data do not determine, and without degrees of freedom; NaN where a fit did
            not end at a minimum.

        Raises
        ------
        ValueError, TypeError
            For a level that is not between 0 and 1, or an unknown parameter or method; with
            'profile' also where the result has no data.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxlsq import fit
        >>> x = np.array([0.02, 0.06, 0.11, 0.22, 0.56, 1.1])
        >>> y = np.array([61.5, 102.0, 131.0, 155.5, 196.0, 203.5])
        >>> result = fit(lambda x, top, half: top * x / (half + x), x, y, [200.0, 0.1])
        >>> result.interval(params="half").round(4)
        array([[0.0407, 0.0876]])
        >>> result.interval(params="half", method="profile").round(4)
        array([[0.0429, 0.0932]])
        """
        numbers = self._numbers(params)
        check_level(level)
        check_known("method", method, METHODS)
        if method == "profile":
            return self.profile(level, params).interval
        t = times(self, level)[..., None]
        x = self.x[..., numbers].astype(np.float64)
        errors = np.sqrt(np.diagonal(self.cov, axis1=-2, axis2=-1))[..., numbers]
        with np.errstate(invalid="ignore"):
            half = np.where(errors == 0, 0.0, t * errors)
        out = np.stack([x - half, x + half], axis=-1)
        return np.where(usable(self.status)[..., None, None], out, np.nan)

    def profile(
        self, level: float = 0.95, params: str | int | Sequence[str | int] | None = None
    ) -> Profile:
        r"""Intervals of the profile likelihood, and what their ends are.

        Every end is found by fits of all others with the parameter held at trial values, in
        float64, of all data sets, parameters and sides at once.  An end is

        * where :math:`\chi^2` is at its limit, to 1e-6 of its distance or better;
        * the parameter's bound, if :math:`\chi^2` is below its limit there;
        * infinite, if :math:`\chi^2` has stopped to rise (its square root rises by less than a
          thousandth of what is missing while the parameter goes four times as far), or is below its
          limit a billion intervals away;
        * NaN, if the model is not finite, or its fits fail, before :math:`\chi^2` is at its limit.

        Where a fit on the way has a cost below that of the minimum, the search begins anew from the
        lower minimum, and a warning says so.

        Parameters
        ----------
        level, params
            As of `interval`.

        Returns
        -------
        Profile

        Raises
        ------
        ValueError, TypeError
            As of `interval`.
        Interrupted
            On Ctrl-C, with this result.
        """
        numbers = self._numbers(params)
        check_level(level)
        return profiled(self, numbers, level)

    def contour(
        self,
        a: str | int,
        b: str | int,
        levels: Sequence[float] = SIGMAS,
        size: int | tuple[int, int] = 41,
    ) -> Contour:
        r"""The profile likelihood of two parameters of one fit, and joint confidence regions.

        .. math:: \chi^2(a, b) \le \chi^2_{min} + 2 F_{2, \nu}(p)\, s^2

        are a region that holds both true parameters with the probability p, with
        :math:`\chi^2(a, b)` the least for the pair and :math:`s^2` as of `interval`; with
        ``absolute_sigma`` and of counts with the quantile of chi-squared of two degrees of freedom
        for :math:`2 F`.

        Parameters
        ----------
        a, b : str or int
            Names or numbers of two parameters that are not fixed.
        levels : sequence of float
            Probabilities; the grid reaches a little beyond the region of the largest one, as far as
            bounds allow.  Where that does not close it ends as far as standard errors say, or some
            times as far; a warning, and the result's `open`, say where.
        size : int or (int, int)
            Values of each parameter.

        Returns
        -------
        Contour

        Raises
        ------
        ValueError, TypeError
            As of `interval`; for a fit that did not end at a minimum; and for a batch.
        Interrupted
            On Ctrl-C, with this result.
        """
        return self._contour(a, b, levels, size, ridge=False)

    def _contour(self, a: Any, b: Any, levels: Any, size: Any, ridge: bool) -> Contour:
        one = self._one((), "contour")
        numbers = self._numbers([a, b])
        if numbers[0] == numbers[1]:
            raise ValueError(f"contour needs two parameters, got {a!r} and {b!r}.")
        sizes = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
        if len(sizes) != 2 or not all(isinstance(k, (int, np.integer)) and k >= 2 for k in sizes):
            raise ValueError(f"size must be a whole number from 2 on, or two, got {size!r}.")
        levels = list(levels)
        if not levels:
            raise ValueError("levels must be one probability or more, such as [0.68, 0.95].")
        for level in levels:
            check_level(level)
        return contour_of(one, numbers, levels, (int(sizes[0]), int(sizes[1])), ridge)

    def _numbers(self, params: Any) -> list[int]:
        return numbers_of(params, self.names)


def numbers_of(params: Any, names: tuple[str, ...]) -> list[int]:
    """Numbers of parameters that are named or numbered, one or several; None for all.

    Raises
    ------
    TypeError, ValueError
        For what is neither, or of another model.
    """
    if params is None:
        return list(range(len(names)))
    alone = isinstance(params, (str, int, np.integer))
    numbers: list[int] = []
    for one in [params] if alone else list(params):
        if isinstance(one, str):
            if one not in names:
                raise ValueError(unknown_name(one, names, "params"))
            numbers.append(names.index(one))
        elif isinstance(one, (int, np.integer)) and not isinstance(one, bool):
            if not -len(names) <= one < len(names):
                raise ValueError(f"params has {one}, but there are {len(names)} parameters.")
            numbers.append(int(one) % len(names))
        else:
            raise TypeError(f"params must be names or numbers of parameters, got {one!r}.")
    return numbers


def check_level(level: Any) -> None:
    """Raise TypeError or ValueError unless a level is between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, (int, float, np.number)):
        raise TypeError(f"level must be a number between 0 and 1, got {level!r}.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, such as 0.95, got {level!r}.")
