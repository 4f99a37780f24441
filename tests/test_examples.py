"""What README shows runs, and prints what it shows."""

import re
from pathlib import Path

import numpy as np

from jaxlsq.status import Status

README = Path(__file__).parent.parent / "README.md"


def test_readme_examples_run(capsys):
    readme = README.read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.S))
    names = {}
    exec(code, names)
    printed = capsys.readouterr().out.splitlines()
    shown = re.search(r"```text\n(.*?)\n", readme)[1]
    assert printed[0] == shown
    result, rates = names["result"], names["rates"]
    assert np.flatnonzero(~result.success).tolist() == [7]
    assert result.status[7] == Status.NONFINITE_DATA
    assert np.median(np.abs(np.delete(result.x[:, 1] / rates - 1.0, 7))) < 0.05
    one_by_one = [float(names["rate"](y)) for y in names["some"]]
    np.testing.assert_allclose(one_by_one, result.x[:5, 1], rtol=1e-3)
