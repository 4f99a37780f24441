"""Runs one function in a process of its own, on chosen cores, and hands back its result."""

import importlib
import json
import os
import subprocess
import sys


def cores():
    """The cores this process may use; nothing where the system can't say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def call(target, *arguments, on=None):
    """`benchmarks.<module>.<function>(*arguments)` in a fresh process; one core unless `on`."""
    on = cores()[:1] if on is None else on
    command = [sys.executable, "-m", "benchmarks.isolated", target]
    done = subprocess.run(
        [*command, json.dumps(arguments), json.dumps(on)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """In the new process."""
    target, arguments, on = sys.argv[1:]
    # Before JAX is imported: it has as many threads as there are cores then.
    if json.loads(on):
        os.sched_setaffinity(0, json.loads(on))
    module, function = target.split(".")
    result = getattr(importlib.import_module(f"benchmarks.{module}"), function)(
        *json.loads(arguments)
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
