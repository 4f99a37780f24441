"""Child processes that are forked from one that has fitted: told to spawn by every door."""

import os
import subprocess
import sys

import pytest

from tests.faults.doors import DOORS

PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
from tests.faults.doors import DOORS, T, called, fitted

result = fitted()
result.stderr
one = result[0]
# Questions of a result that was there before the fork, and the doors.
calls = {name: lambda name=name: called(name) for name in DOORS}
calls |= {
    "refit": lambda: result.refit(where=True),
    "prediction of the parent's": lambda: result.predict(T),
    "profile of the parent's": lambda: result.profile(),
    "bootstrap of the parent's": lambda: result.bootstrap(5),
    "contour of the parent's": lambda: one.contour("a", "k", size=3),
}
calls.pop("command")
sys.stdout.flush()
child = os.fork()
if child == 0:
    for name, call in calls.items():
        try:
            call()
            print(name, "ended", sep="|", flush=True)
        except RuntimeError as error:
            print(name, "spawn" in str(error), sep="|", flush=True)
    os._exit(0)
os.waitpid(child, 0)
called("shared")
print("parent", "ended", sep="|", flush=True)
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_every_door_in_a_forked_child():
    command = [sys.executable, "-c", PROGRAM]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = dict(line.split("|") for line in run.stdout.splitlines())
    assert found.pop("parent") == "ended"
    assert set(found) >= set(DOORS) - {"command"}
    assert set(found.values()) == {"True"}, found
