"""Cores that a process may use: its affinity, and the quotas of control groups."""

import math
import os

import pytest

import jaxlsq.schedule.devices
from jaxlsq.schedule.devices import quota, usable_cores

V2 = {"proc/self/cgroup": "0::/user/job\n"}
V1 = {"proc/self/cgroup": "5:memory:/job\n3:cpu,cpuacct:/job\n0::/\n"}
CPU = "sys/fs/cgroup/cpu,cpuacct/"

CASES = {
    "no groups": ({}, math.inf),
    "v2": (V2 | {"sys/fs/cgroup/user/job/cpu.max": "200000 100000\n"}, 2),
    "v2, a part of a core": (V2 | {"sys/fs/cgroup/user/job/cpu.max": "50000 100000\n"}, 1),
    "v2, one and a half": (V2 | {"sys/fs/cgroup/user/job/cpu.max": "150000 100000"}, 2),
    "v2, of the group above": (
        V2 | {"sys/fs/cgroup/user/job/cpu.max": "max 100000", "sys/fs/cgroup/user/cpu.max": "3 1"},
        3,
    ),
    "v2, in a namespace": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"},
        4,
    ),
    "v2, none": (V2 | {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, math.inf),
    "v1": (
        V1 | {CPU + "job/cpu.cfs_quota_us": "300000", CPU + "job/cpu.cfs_period_us": "100000"},
        3,
    ),
    "v1, none": (
        V1 | {CPU + "job/cpu.cfs_quota_us": "-1", CPU + "job/cpu.cfs_period_us": "100000"},
        math.inf,
    ),
}


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES)
def test_quota(tmp_path, files, expected):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert quota(tmp_path) == expected


def test_usable_cores(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    monkeypatch.setattr(jaxlsq.schedule.devices, "quota", lambda: 1)
    assert usable_cores() == 1
