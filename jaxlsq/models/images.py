"""Spots in images of two and three dimensions."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxlsq.models.candidates import extremes
from jaxlsq.models.model import Model
from jaxlsq.models.peaks import bell
from jaxlsq.models.sample import Sample, spread
from jaxlsq.models.scan import Scan
from jaxlsq.models.shapes import coordinates, floating, positive, reduced

__all__ = ["Gaussian2D", "RotatedGaussian2D", "Spot3D"]

_TWO_PI = 2.0 * math.pi
_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
_FACTORS = (1.0 / 1.4, 1.0, 1.4)
_SHIFTS = (-0.5, 0.0, 0.5)


def _at_extremes(sample: Sample, *shapes: Any):
    """The coordinates of extreme points, each with all combinations of some values."""
    points = extremes(sample)
    grid = spread(*shapes)
    places = [jnp.repeat(v[points], grid[0].size) for v in sample.x]
    return (*places, *(jnp.tile(jnp.asarray(v, sample.y.dtype), points.size) for v in grid))


def _near(values: Any, *rows: Any):
    """Of each value what its row of the grid makes of it."""
    return [jnp.asarray(v, values[0].dtype) for v in spread(*rows)]


# --- two dimensions ---------------------------------------------------------------------


def _spot(x: Any, amplitude: Any, centerx: Any, centery: Any, sigmax: Any, sigmay: Any):
    across, along = coordinates(x, 2)
    shape = bell(reduced(across, centerx, sigmax, 50.0)) * bell(
        reduced(along, centery, sigmay, 50.0)
    )
    return amplitude / (_TWO_PI * positive(sigmax) * positive(sigmay)) * shape


def _spot_columns(x: Any, *values: Any):
    centerx, centery, sigmax, sigmay = values
    return (
        bell(reduced(x[0], centerx, sigmax, 50.0)) * bell(reduced(x[1], centery, sigmay, 50.0)),
    )


def _spot_candidates(sample: Sample):
    sizes = (0.03, 0.08, 0.2, 0.45)
    *centers, sx, sy = _at_extremes(sample, sizes, sizes)
    return (*centers, sample.span[0] * sx, sample.span[1] * sy)


def _spot_near(sample: Sample, number: Any, *values: Any):
    centerx, centery, sigmax, sigmay = values
    a, b, c, d = _near(values, _SHIFTS, _SHIFTS, _FACTORS, _FACTORS)
    return centerx + a * sigmax, centery + b * sigmay, sigmax * c, sigmay * d


_SPOT_NAMES = ("centerx", "centery", "sigmax", "sigmay")


def _spot_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    found = dict(zip(_SPOT_NAMES, values, strict=True))
    return {"amplitude": coefficients[0] * _TWO_PI * values[2] * values[3], **found}


def _spot_derived(params: dict[str, Any]) -> dict[str, Any]:
    sigmax, sigmay = params["sigmax"], params["sigmay"]
    return {
        "fwhmx": _FWHM * sigmax,
        "fwhmy": _FWHM * sigmay,
        "height": params["amplitude"] / (_TWO_PI * positive(sigmax) * positive(sigmay)),
    }


_SPOT_UNITS = {
    "amplitude": "x[0]*x[1]*y",
    "centerx": "x[0]",
    "centery": "x[1]",
    "sigmax": "x[0]",
    "sigmay": "x[1]",
}
_SPOT_BOUNDS = {"sigmax": (0.0, None), "sigmay": (0.0, None)}


def Gaussian2D(prefix: str = "") -> Model:
    r"""A Gaussian spot in an image, lmfit's ``Gaussian2dModel``.

    .. math:: f(x_0, x_1) = \frac{A}{2 \pi \sigma_x \sigma_y}
              e^{-(x_0 - c_x)^2 / (2 \sigma_x^2) - (x_1 - c_y)^2 / (2 \sigma_y^2)}

    x is a (2, m) array, or a tuple of two (m,) ones: the coordinates of m pixels.

    Parameters: `amplitude` A, the volume, of either sign; `centerx` and `sigmax` in the units of
    ``x[0]``, `centery` and `sigmay` in those of ``x[1]``, the widths not negative.

    Guess: a scan over widths at the six largest and the six smallest pixels, the volume by linear
    least squares.

    Derived: `fwhmx`, `fwhmy` and `height`.

    Hard points: for a background add a `Constant`. A spot narrower than a pixel has no width
    that the data know.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq.models import Gaussian2D
    >>> rows, columns = np.mgrid[0:9, 0:9]
    >>> x = np.stack([columns.ravel(), rows.ravel()])
    >>> model = Gaussian2D()
    >>> y = model(x, amplitude=50.0, centerx=3.0, centery=5.0, sigmax=1.5, sigmay=1.0)
    >>> guess = model.guess(x, y)
    >>> print(round(float(guess["centerx"])), round(float(guess["centery"])))
    3 5
    """
    return _SPOT.prefixed(prefix)


_SPOT = Model(
    _spot,
    guess=Scan(_spot_candidates, _spot_columns, _spot_assembled, _spot_near, 2, variables=2),
    bounds=_SPOT_BOUNDS,
    derived=_spot_derived,
    units=_SPOT_UNITS,
    name="gaussian2d",
)


# --- rotated ----------------------------------------------------------------------------


def _turned(x: Any, centerx: Any, centery: Any, sigmax: Any, sigmay: Any, rotation: Any):
    across, along = coordinates(x, 2)
    dx, dy = floating(across) - centerx, floating(along) - centery
    cosine, sine = jnp.cos(floating(rotation)), jnp.sin(floating(rotation))
    u = reduced(dx * cosine + dy * sine, 0.0, sigmax, 50.0)
    v = reduced(dy * cosine - dx * sine, 0.0, sigmay, 50.0)
    return bell(u) * bell(v)


def _rotated(
    x: Any, amplitude: Any, centerx: Any, centery: Any, sigmax: Any, sigmay: Any, rotation: Any
):
    factor = amplitude / (_TWO_PI * positive(sigmax) * positive(sigmay))
    return factor * _turned(x, centerx, centery, sigmax, sigmay, rotation)


def _rotated_columns(x: Any, *values: Any):
    return (_turned(x, *values),)


def _rotated_candidates(sample: Sample):
    # Width, aspect and angle, in which a circle is one of each.
    forms = [(w, 1.0, 0.0) for w in (0.04, 0.1, 0.25)]
    angles = np.arange(4) * np.pi / 4
    forms += [(w, q, a) for w in (0.04, 0.1, 0.25) for q in (1.6, 3.0) for a in angles]
    widths, aspects, angle = np.array(forms).T
    places = np.arange(len(forms))
    *centers, which = _at_extremes(sample, places)
    which = which.astype(int)
    size = jnp.sqrt(sample.span[0] * sample.span[1])
    width, aspect, angle = (jnp.asarray(v, sample.y.dtype)[which] for v in (widths, aspects, angle))
    root = jnp.sqrt(aspect)
    return (*centers, size * width * root, size * width / root, angle)


def _rotated_near(sample: Sample, number: Any, *values: Any):
    centerx, centery, sigmax, sigmay, rotation = values
    turns = (-math.pi / 8, 0.0, math.pi / 8)
    a, b, c, d, e = _near(values, _SHIFTS, _SHIFTS, _FACTORS, _FACTORS, turns)
    width = jnp.minimum(sigmax, sigmay)
    return (
        centerx + a * width,
        centery + b * width,
        sigmax * c,
        sigmay * d,
        rotation + e / (number + 1),
    )


def _rotated_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    found = _spot_assembled(sample, values[:4], coefficients)
    return {**found, "rotation": values[4]}


def RotatedGaussian2D(prefix: str = "") -> Model:
    r"""A Gaussian spot whose axes are turned.

    .. math:: f = \frac{A}{2 \pi \sigma_x \sigma_y} e^{-u^2 / 2 - v^2 / 2}, \quad
              u = \frac{d_0 \cos\theta + d_1 \sin\theta}{\sigma_x}, \quad
              v = \frac{d_1 \cos\theta - d_0 \sin\theta}{\sigma_y}

    with :math:`d_0 = x_0 - c_x` and :math:`d_1 = x_1 - c_y`; x as for `Gaussian2D`, both of its
    coordinates in the same units.

    Parameters: as for `Gaussian2D`, of which `sigmax` and `sigmay` are those along the axes of the
    spot, and `rotation` :math:`\theta` in radians, from ``x[0]`` toward ``x[1]``.

    Guess: a scan over widths, aspects and angles at the six largest and the six smallest pixels,
    the volume by linear least squares.

    Derived: `fwhmx`, `fwhmy` and `height`.

    Hard points: a round spot has no angle, and ends as SINGULAR_JACOBIAN or with a large error
    of it. A quarter of a turn with both widths exchanged is the same function.

    Examples
    --------
    >>> from jaxlsq.models import RotatedGaussian2D
    >>> RotatedGaussian2D().names[-2:]
    ('sigmay', 'rotation')
    """
    return _ROTATED.prefixed(prefix)


_ROTATED = Model(
    _rotated,
    guess=Scan(
        _rotated_candidates, _rotated_columns, _rotated_assembled, _rotated_near, 2, variables=2
    ),
    bounds=_SPOT_BOUNDS,
    derived=_spot_derived,
    units={**_SPOT_UNITS, "rotation": ""},
    name="rotated_gaussian2d",
)


# --- three dimensions -------------------------------------------------------------------

_VOLUME = _TWO_PI**1.5


def _bead_shape(x: Any, centerx: Any, centery: Any, centerz: Any, sigma: Any, sigmaz: Any):
    across, along, height = coordinates(x, 3)
    u = reduced(across, centerx, sigma, 50.0)
    v = reduced(along, centery, sigma, 50.0)
    return bell(u) * bell(v) * bell(reduced(height, centerz, sigmaz, 50.0))


def _bead(
    x: Any, amplitude: Any, centerx: Any, centery: Any, centerz: Any, sigma: Any, sigmaz: Any
):
    factor = amplitude / (_VOLUME * positive(sigma) ** 2 * positive(sigmaz))
    return factor * _bead_shape(x, centerx, centery, centerz, sigma, sigmaz)


def _bead_columns(x: Any, *values: Any):
    return (_bead_shape(x, *values),)


def _bead_candidates(sample: Sample):
    *centers, s, sz = _at_extremes(sample, (0.03, 0.08, 0.2, 0.45), (0.05, 0.12, 0.3, 0.6))
    size = jnp.sqrt(sample.span[0] * sample.span[1])
    return (*centers, size * s, sample.span[2] * sz)


def _bead_near(sample: Sample, number: Any, *values: Any):
    centerx, centery, centerz, sigma, sigmaz = values
    a, b, c, d, e = _near(values, _SHIFTS, _SHIFTS, _SHIFTS, _FACTORS, _FACTORS)
    return (
        centerx + a * sigma,
        centery + b * sigma,
        centerz + c * sigmaz,
        sigma * d,
        sigmaz * e,
    )


_BEAD_NAMES = ("centerx", "centery", "centerz", "sigma", "sigmaz")


def _bead_assembled(sample: Sample, values: Any, coefficients: Any) -> dict[str, Any]:
    found = dict(zip(_BEAD_NAMES, values, strict=True))
    return {"amplitude": coefficients[0] * _VOLUME * values[3] ** 2 * values[4], **found}


def _bead_derived(params: dict[str, Any]) -> dict[str, Any]:
    sigma, sigmaz = params["sigma"], params["sigmaz"]
    return {
        "fwhm": _FWHM * sigma,
        "fwhmz": _FWHM * sigmaz,
        "height": params["amplitude"] / (_VOLUME * positive(sigma) ** 2 * positive(sigmaz)),
    }


def Spot3D(prefix: str = "") -> Model:
    r"""A bead in a stack of images: round in its plane, of another width across.

    .. math:: f = \frac{A}{(2 \pi)^{3/2} \sigma^2 \sigma_z}
              e^{-\left[(x_0 - c_x)^2 + (x_1 - c_y)^2\right] / (2 \sigma^2)
              - (x_2 - c_z)^2 / (2 \sigma_z^2)}

    x is a (3, m) array, or a tuple of three (m,) ones, the first two in the same units.

    Parameters: `amplitude` A, y summed over the volume, of either sign; `centerx`, `centery` and
    `sigma` :math:`\ge 0` in the units of ``x[0]``, `centerz` and `sigmaz` :math:`\ge 0` in those
    of ``x[2]``.

    Guess: a scan over widths at the six largest and the six smallest voxels, the amplitude by
    linear least squares.

    Derived: `fwhm`, `fwhmz` and `height`.

    Hard points: for a background add a `Constant`.

    Examples
    --------
    >>> from jaxlsq.models import Spot3D
    >>> Spot3D().names
    ('amplitude', 'centerx', 'centery', 'centerz', 'sigma', 'sigmaz')
    """
    return _BEAD.prefixed(prefix)


_BEAD = Model(
    _bead,
    guess=Scan(_bead_candidates, _bead_columns, _bead_assembled, _bead_near, variables=3),
    bounds={"sigma": (0.0, None), "sigmaz": (0.0, None)},
    derived=_bead_derived,
    units={
        "amplitude": "x[0]*x[1]*x[2]*y",
        "centerx": "x[0]",
        "centery": "x[1]",
        "centerz": "x[2]",
        "sigma": "x[0]",
        "sigmaz": "x[2]",
    },
    name="spot3d",
)
