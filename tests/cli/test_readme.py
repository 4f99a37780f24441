"""What README shows of the command line is what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_readme_shows_the_real_output(tmp_path):
    readme = (ROOT / "README.md").read_text()
    section = re.search(r"## Command line\n(.*?)\n## ", readme, re.S)[1]
    code = re.search(r"```sh\n(.*?)```", section, re.S)[1]
    shown = re.search(r"```text\n(.*?)```", section, re.S)[1]
    script = re.sub(r"^(python|jaxlsq)", f'"{sys.executable}"', code, flags=re.M)
    script = script.replace('" fit', '" -m jaxlsq.cli fit')
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    shell = {"shell": True, "capture_output": True, "text": True, "cwd": tmp_path, "env": env}
    done = subprocess.run(script, **shell)
    assert done.stderr == ""
    # How many fits end by which test, and after how many evaluations, is the processor's.
    for one, two in zip(done.stdout.splitlines(), shown.splitlines(), strict=True):
        if "TOL" in one and "+-" not in one:
            assert one.split()[1] == two.split()[1]
        else:
            assert one == two
    assert len((tmp_path / "fits.csv").read_text().splitlines()) == 10_001
