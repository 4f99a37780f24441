"""``python -m jaxlsq``: the fits of NIST's problems, and the bootstrap of their errors."""

import subprocess
import sys

import pytest


@pytest.mark.long
def test_main_prints_the_table(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "jaxlsq"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "51 of 54 fits agree with NIST" in run.stdout
    assert "fitting 54/54: Thurber, start 2" in run.stderr
    assert (tmp_path / "nist.png").stat().st_size > 50_000
