"""What a program of one point is, and what it reads."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from jaxlsq.lowering.axes import NOWHERE, Place, axes_of, narrowed
from jaxlsq.tracing.types import Jaxpr

__all__ = ["Input", "PointProgram"]


@dataclass(frozen=True)
class Input:
    """What a program of one point reads, beside the parameters.

    Attributes
    ----------
    of_lane : bool
        Whether each lane has its own.
    place : Place
        Of the points in the array that it is part of.
    shape, dtype
        Of one lane's whole array.
    source : int
        Its number among the inputs of the function at all points, or minus one minus its number
        among what is computed beforehand, or among the results of the stage.
    staged : bool
        Whether it is of the stage.
    """

    of_lane: bool
    place: Place
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    source: int
    staged: bool = False

    @property
    def of_point(self) -> bool:
        """Whether each point has its own."""
        return self.place != NOWHERE

    @property
    def part(self) -> tuple[int, ...]:
        """The shape of what a point reads."""
        return narrowed(self.shape, self.place)

    @property
    def size(self) -> int:
        """Numbers that a point reads."""
        return math.prod(self.part)

    @property
    def key(self) -> tuple[Any, ...]:
        """What the program knows of it."""
        return self.of_lane, self.of_point, self.part, self.dtype, self.staged

    def arranged(self, array: Any, xp: ModuleType = np) -> Any:
        """Arrays of lanes, or of all, with the points as their last axis: contiguous.

        Parameters
        ----------
        array : (..., *shape) array
        xp : module
            numpy or jax.numpy.

        Returns
        -------
        (..., size, m) array, or (..., size) without points
        """
        array = xp.asarray(array, self.dtype)
        contiguous = np.ascontiguousarray if xp is np else xp.asarray
        front = array.ndim - len(self.shape)
        if not self.of_point:
            return contiguous(array.reshape(*array.shape[:front], -1))
        rest = [front + k for k in range(len(self.shape)) if k not in axes_of(self.place)]
        array = array.transpose(
            *range(front), *rest, *(front + axis for axis in axes_of(self.place))
        )
        lead = array.shape[: front + len(rest)]
        k = len(lead)
        shape = list(lead)
        for axis, _ in self.place:
            shape.append(1 if axis is None else array.shape[k])
            k += axis is not None
        full = (*lead, *(size for _, size in self.place))
        array = xp.broadcast_to(array.reshape(shape), full)
        return contiguous(array.reshape(*array.shape[:front], self.size, -1))


@dataclass(frozen=True)
class PointProgram:
    """A function of one point.

    Attributes
    ----------
    jaxpr, consts
        Its jaxpr, of the parameters and then the inputs' parts, and what that closes over.
    inputs : tuple of Input
    beforehand : callable or None
        ``beforehand(*inputs) -> list``, of one lane's inputs of the function at all points: what
        is computed once.
    prepared_of_lane : tuple of bool
        Which of that depends on the lane.
    points : int
        How often it is to be taken.
    rows : int
        Residuals of a point: each result is so many numbers.
    steady : tuple of bool
        Which of the results depend neither on the parameters nor on a lane's data.
    stage : PointProgram or None
        Of no parameters; its results, of which each may have several numbers, are read.
    abreast : int
        How many points are computed side by side, see `Lowering.abreast`.
    """

    jaxpr: Jaxpr
    consts: tuple[Any, ...]
    inputs: tuple[Input, ...]
    beforehand: Callable[..., Any] | None
    prepared_of_lane: tuple[bool, ...]
    points: int
    rows: int = 1
    steady: tuple[bool, ...] = ()
    stage: "PointProgram | None" = None
    abreast: int = 1

    @property
    def given(self) -> list[Input]:
        """Inputs that a kernel is given pointers to, in their order; the stage's are the last."""
        stage = self.stage
        return [i for i in self.inputs if not i.staged] + list(stage.inputs if stage else ())
