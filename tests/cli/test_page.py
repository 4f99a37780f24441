"""What the page of the command line types runs, and gives what `fit` gives."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxlsq import fit
from jaxlsq.models import ExponentialOffset

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "command_line.md"


@pytest.fixture(scope="module")
def typed():
    """The names on the page, and what each cell with a command prints."""
    names, printed = {}, []
    for cell in re.findall(r"```\{code-cell\} python\n(.*?)```", PAGE.read_text(), re.S):
        lines = []
        names["print"] = lines.append
        exec(cell, names)
        printed.append("\n".join(lines))
    return names, [text for text in printed if text]


def decays_of(names):
    """A row for each data set, below their times."""
    return pd.read_csv(names["folder"] + "/decays.csv").set_index("t").T


def fitted(model, decays, *p0, **options):
    return fit(model, decays.columns.to_numpy(float), decays.to_numpy(), *p0, **options)


def decay(t, a, b, c):
    return a * jnp.exp(-b * t) + c


def test_a_table_of_fits(typed):
    names, printed = typed
    table = pd.read_csv(names["folder"] + "/fits.csv", index_col=0)
    decays = decays_of(names)
    expected = fitted(decay, decays, [1.0, 1.0, 0.0])
    assert "1,000 fits, 999 converged, 1 did not" in printed[0]
    assert "not converged: cell7: NONFINITE_DATA" in printed[0]
    assert table.index.tolist() == decays.index.tolist()
    good = expected.success
    np.testing.assert_allclose(table.loc[good, ["a", "b", "c"]], expected.x[good], rtol=1e-5)
    np.testing.assert_allclose(table.b_stderr[good], expected.stderr[good, 1], rtol=1e-5)
    assert table.status[~good].tolist() == ["NONFINITE_DATA"]
    assert printed[0].count("\n") < 30


def test_some_columns(typed):
    names, printed = typed
    two = decays_of(names).loc[["cell1", "cell7"]]
    expected = fitted(decay, two, [1.0, 1.0, 0.0], nan_policy="omit")
    rows = dict(re.findall(r"^  (cell\d) +(\S+) .*FTOL$", printed[1], re.M))
    assert [float(rows[name]) for name in ("cell1", "cell7")] == pytest.approx(
        expected.params[:, 0], rel=1e-5
    )


def test_a_ready_model(typed):
    names, printed = typed
    result = fitted(ExponentialOffset(), decays_of(names).loc[["cell1"]])[0]
    for name in ("amplitude", "decay", "offset"):
        found = re.search(rf"^  {name} +(\S+)", printed[2], re.M)[1]
        assert float(found) == pytest.approx(float(result.params[name]), rel=1e-5)


def test_help_names_what_the_page_does(typed):
    helped = typed[1][-1]
    options = set(re.findall(r"`(--[\w-]+)", PAGE.read_text()))
    assert len(options) > 10
    assert all(option in helped for option in options), options
    assert not any("Traceback" in text for text in typed[1])
