"""Processors that this process may use: affinity, and both versions of cgroups."""

import os

import pytest

from clipedu.utils import processors as module
from clipedu.utils.processors import cgroup_quota, processors


def test_affinity_and_quota_bound_each_other(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    for quota, expected in ((None, 6), (2.0, 2), (2.9, 2), (0.5, 1), (64.0, 6)):
        monkeypatch.setattr(module, "cgroup_quota", lambda quota=quota: quota)
        assert processors() == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors() == 1


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_smallest_quota_above_a_process_holds(tmp_path):
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    membership.write_text("0::/slice/job/step\n")
    assert cgroup_quota(root, membership) is None
    write(root / "slice" / "job" / "step" / "cpu.max", "max 100000\n")
    assert cgroup_quota(root, membership) is None
    write(root / "slice" / "job" / "cpu.max", "250000 100000\n")
    assert cgroup_quota(root, membership) == 2.5
    write(root / "slice" / "cpu.max", "100000 50000\n")
    assert cgroup_quota(root, membership) == 2
    assert cgroup_quota(root, tmp_path / "nothing") is None


def test_version_one(tmp_path):
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    membership.write_text("5:memory:/x\n4:cpuacct,cpu:/docker/abc\n")
    write(root / "cpu" / "docker" / "abc" / "cpu.cfs_quota_us", "-1\n")
    write(root / "cpu" / "docker" / "abc" / "cpu.cfs_period_us", "100000\n")
    assert cgroup_quota(root, membership) is None
    write(root / "cpu" / "docker" / "abc" / "cpu.cfs_quota_us", "300000\n")
    assert cgroup_quota(root, membership) == 3
    assert cgroup_quota(root, tmp_path / "nothing") is None
    write(root / "cpu" / "cpu.cfs_quota_us", "150000")
    write(root / "cpu" / "cpu.cfs_period_us", "100000")
    assert cgroup_quota(root, membership) == cgroup_quota(root, tmp_path / "nothing") == 1.5


@pytest.mark.parametrize("text", ["", "junk", "max", "0 0", "10 0", "0 100000"])
def test_what_cannot_be_read_bounds_nothing(tmp_path, text):
    write(tmp_path / "cpu.max", text)
    assert cgroup_quota(tmp_path, tmp_path / "nothing") is None
