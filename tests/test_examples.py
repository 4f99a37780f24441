"""What README shows runs, and prints what it shows."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_readme_examples_run(capsys):
    readme = README.read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.S))
    names = {}
    exec(code, names)
    printed = capsys.readouterr().out.splitlines()
    shown = re.search(r"```text\n(.*?)\n", readme)[1]
    assert printed[0] == shown
    assert "     97,763 FTOL" in readme
    assert any("NONFINITE_DATA" in line for line in printed)
    # The second block: bounded, with a parameter fixed.
    result, rates = names["result"], names["rates"]
    second = re.findall(r"```text\n(.*?)```", readme, re.S)[1].splitlines()
    assert [line for line in second if "evaluations" not in line] == [
        line
        for line in printed[printed.index(second[0]) :][: len(second)]
        if "evaluations" not in line
    ]
    for line in re.findall(r"^the truth is inside.*$", readme, re.M):
        assert line in printed
    rate = result.params["k"]
    others = np.arange(1000) != 7
    assert np.median(np.abs(rate / rates[:1000] - 1.0)[others]) < 0.05
    np.testing.assert_allclose(names["life"], 1.0 / rate, rtol=1e-9)
    assert np.all(names["error"] > 0)
    one_by_one = [float(names["rate"](y)) for y in names["some"]]
    np.testing.assert_allclose(one_by_one, rates[:5], rtol=0.1)
