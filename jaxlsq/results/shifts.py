"""Where the points of a fit with errors in x are nearest to its curve."""

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from jaxlsq.problem.types import PyTree
from jaxlsq.results.evaluator import Evaluator

__all__ = ["Shifted"]


class Shifted:
    """What a `FitResult` says of points whose x was uncertain."""

    x: NDArray[Any]

    if TYPE_CHECKING:  # what the rest of a `FitResult` has

        def _with_data(self, what: str) -> Evaluator: ...

    @property
    def x_shifts(self) -> PyTree:
        r"""What brings each x to the place on the curve that is nearest to its point.

        .. math:: d_j = \arg\min_d \left(\frac{f(x_j + d, p) - y_j}{\sigma_j}\right)^2
                  + \left(\frac{d}{\sigma_{x,j}}\right)^2

        In the units and in the form of `xdata`, with the batch's shape in front: (..., m) for x of
        (m,), and lists of arrays where the data are ragged.  Zero where x is exact and where a
        point does not count; NaN where no nearest place was found.

        Raises
        ------
        ValueError
            Where the fit was not one of orthogonal distances, `xsigma` of `jaxlsq.fit`.

        Examples
        --------
        >>> import numpy as np
        >>> from jaxlsq import fit
        >>> x, y = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.5, 2.0])
        >>> line = fit(lambda x, a, b: a + b * x, x, y, [0.0, 1.0], xsigma=1.0)
        >>> line.x_shifts.round(4)
        array([-0.062 ,  0.1665, -0.1045])
        """
        return self._with_data("x_shifts").x_shifts(self.x)
