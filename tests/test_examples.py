"""What README shows runs, each example alone, and prints what it shows."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.S)


def run(number):
    """The names of an example that ran alone."""
    names = {}
    exec(EXAMPLES[number][0], names)
    return names


def test_all_code_is_an_example():
    assert len(EXAMPLES) == len(re.findall(r"```python\n", README)) == 3


@pytest.mark.parametrize("number", range(3))
def test_examples_print_what_is_shown(number, capsys):
    run(number)
    printed = capsys.readouterr().out.splitlines()
    # How many fits end by which test, and the last digits of a gradient, are the processor's.
    for one, two in zip(printed, EXAMPLES[number][1].splitlines(), strict=True):
        if "TOL:" in two and two.split()[0] != "1":
            assert one.split()[1:] == two.split()[1:]
        elif "optimality" in two:
            assert one.split(";")[0] == two.split(";")[0]
        elif two.startswith("["):
            both = [np.array(line.strip("[]").split(), float) for line in (one, two)]
            np.testing.assert_allclose(*both, rtol=1e-3)
        else:
            assert one == two


def test_many_decays_have_their_rates():
    names = run(0)
    result, rates = names["result"], names["rates"]
    others = np.arange(rates.size) != 7
    assert np.array_equal(result.success, others)
    pull = (result.params[others, 1] - rates[others]) / result.stderr[others, 1]
    assert abs(np.mean(np.abs(pull) < 1.0) - 0.68) < 0.01


def test_a_ready_model_has_the_truth():
    result = run(1)["result"]
    truth = {
        "amplitude": 3.0 * 0.8 * np.sqrt(2 * np.pi),
        "center": 6.0,
        "sigma": 0.8,
        "slope": 0.02,
        "intercept": 1.0,
    }
    for name, value in truth.items():
        assert abs(result.params[name] - value) < 3.5 * result.stderr[name], name


def test_the_gradient_is_that_of_the_solution():
    names = run(2)
    rate, decays, h = names["rate"], np.asarray(names["decays"], np.float64), 1e-2
    for y, gradient in zip(decays, names["jax"].vmap(names["jax"].grad(rate))(decays), strict=True):
        up, down = (float(rate(y + sign * h * (np.arange(50) == 0))) for sign in (1, -1))
        np.testing.assert_allclose(gradient[0], (up - down) / (2 * h), rtol=0.02)
