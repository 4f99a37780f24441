"""What the pages of models show of each: its docstring, and a fit from its own guess."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

from jaxlsq import fit
from jaxlsq.models import Model

NOISE = 0.04  # of the range of the curve, or of its value if it has none


def words(docstring: str) -> str:
    """Markdown of a docstring in reStructuredText, without errors and examples."""
    text = re.split(r"\n(?:Raises|Examples)\n---", inspect.cleandoc(docstring))[0]
    text = re.sub(
        r"^\.\. math::((?: .*)?(?:\n(?:[ ].*|(?=\n[ ])))*)",
        lambda found: "$$\n" + inspect.cleandoc(found[1].strip()) + "\n$$",
        text,
        flags=re.M,
    )
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    text = text.replace("``", "`")
    return re.sub(r"^(Parameters|Guess|Derived|Hard points|Source):", r"**\1.**", text, flags=re.M)


def noisy(values: np.ndarray) -> np.ndarray:
    """A curve with noise, the same whenever the page is made."""
    rng = np.random.default_rng(0)
    scale = np.ptp(values) or np.max(np.abs(values))
    return values + NOISE * scale * rng.normal(size=values.shape)


def guessed(model: Model, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The model's own start, which `fit` would take."""
    return {name: float(value) for name, value in jax.jit(model.guess)(x, y).items()}


def show(factory: Callable[..., Model], x: np.ndarray, log: bool = False, **truth: Any) -> None:
    """The words, and a figure of data, guess and fit along a line."""
    model = factory()
    y = noisy(np.asarray(model(x, **truth)))
    guess = guessed(model, x, y)
    result = fit(model, x, y, p0=guess)
    fine = np.geomspace(x[0], x[-1], 400) if log else np.linspace(x[0], x[-1], 400)
    _, ax = plt.subplots(figsize=(5.6, 2.6))
    ax.plot(x, y, ".", color="0.6", label="data")
    ax.plot(fine, model(fine, **guess), ":", color="C0", lw=2, zorder=3, label="guess")
    ax.plot(fine, result.predict(fine), color="C1", label="fit")
    ax.set(xlabel="x", ylabel="y", xscale="log" if log else "linear")
    ax.legend(fontsize="small", bbox_to_anchor=(1.0, 1.0), loc="upper left")
    display(Markdown(words(factory.__doc__)))
    plt.show()


def show_image(factory: Callable[..., Model], x: np.ndarray, **truth: Any) -> None:
    """The words, and data, guess and fit as images (of three dimensions summed over the last)."""
    model = factory()
    shape = x.shape[1:]
    flat = x.reshape(len(shape), -1)
    y = noisy(np.asarray(model(flat, **truth)))
    guess = guessed(model, flat, y)
    result = fit(model, flat, y, p0=guess)
    figure, axes = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
    images = [np.asarray(v).reshape(shape) for v in (y, model(flat, **guess), result.predict())]
    images = [image.sum(axis=2) if image.ndim == 3 else image for image in images]
    low, high = images[0].min(), images[0].max()
    for ax, title, image in zip(axes, ("data", "guess", "fit"), images, strict=True):
        shown = ax.imshow(image.T, origin="lower", vmin=low, vmax=high)
        ax.set(title=title, xlabel="x[0] (pixel)")
    axes[0].set_ylabel("x[1] (pixel)")
    figure.colorbar(shown, ax=axes, label="y", shrink=0.8)
    display(Markdown(words(factory.__doc__)))
    plt.show()
