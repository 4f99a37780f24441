"""Ready models, with guesses, bounds and derived quantities, and what is made of them."""

from jaxlsq.models.asymmetric import ExponentialGaussian, Lognormal, SkewedGaussian
from jaxlsq.models.binding import Association, Dissociation
from jaxlsq.models.decays import (
    BiExponential,
    Exponential,
    ExponentialOffset,
    StretchedExponential,
    T1Recovery,
)
from jaxlsq.models.doses import FivePL, FourPL, Hill, MichaelisMenten
from jaxlsq.models.images import Gaussian2D, RotatedGaussian2D, Spot3D
from jaxlsq.models.laws import Arrhenius, PowerLaw
from jaxlsq.models.lines import Constant, Linear, Polynomial, Quadratic
from jaxlsq.models.model import Model
from jaxlsq.models.peaks import Gaussian, Lorentzian, PseudoVoigt, Voigt
from jaxlsq.models.powers import Moffat, PearsonVII
from jaxlsq.models.resonances import BreitWigner, Doniach, Fano
from jaxlsq.models.steps import Step
from jaxlsq.models.waves import DampedSine, Sine

__all__ = [
    "Arrhenius",
    "Association",
    "BiExponential",
    "BreitWigner",
    "Constant",
    "DampedSine",
    "Dissociation",
    "Doniach",
    "Exponential",
    "ExponentialGaussian",
    "ExponentialOffset",
    "Fano",
    "FivePL",
    "FourPL",
    "Gaussian",
    "Gaussian2D",
    "Hill",
    "Linear",
    "Lognormal",
    "Lorentzian",
    "MichaelisMenten",
    "Model",
    "Moffat",
    "PearsonVII",
    "Polynomial",
    "PowerLaw",
    "PseudoVoigt",
    "Quadratic",
    "RotatedGaussian2D",
    "Sine",
    "SkewedGaussian",
    "Spot3D",
    "Step",
    "StretchedExponential",
    "T1Recovery",
    "Voigt",
]
