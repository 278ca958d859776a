"""The bench of workers runs, with quotas and without; a quota is a cgroup's, and no cgroup is left."""

import os
import subprocess
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from tests.bench import quota, workers
from tests.bench.figures import TIMES, Scale

NO_QUOTA = "no cgroup with a quota can be made here: that takes root, or a delegated group"


def test_a_place_for_quotas_in_version_1() -> None:
    mounts = (
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0"
    )
    groups = "4:cpu,cpuacct:/user.slice\n3:pids:/elsewhere\n1:name=systemd:/init.scope"
    nearest, root = quota.places(mounts, groups)
    assert nearest.parent == nearest.home == Path("/sys/fs/cgroup/cpu,cpuacct/user.slice")
    assert root.parent == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert nearest.settings(0.5) == {"cpu.cfs_period_us": "10000", "cpu.cfs_quota_us": "5000"}


def test_a_place_for_quotas_in_version_2() -> None:
    found = list(quota.places("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0", "0::/user.slice/a.scope"))
    assert [place.parent for place in found] == [
        Path("/sys/fs/cgroup/user.slice/a.scope"), Path("/sys/fs/cgroup/user.slice"), Path("/sys/fs/cgroup"),
    ]  # fmt: skip
    assert {place.home for place in found} == {Path("/sys/fs/cgroup/user.slice/a.scope")}
    assert found[0].settings(0.25) == {"cpu.max": "2500 10000"}


def test_a_quota_ends_with_its_block_also_after_an_error() -> None:
    place = quota.find()
    if place is None:
        pytest.skip(NO_QUOTA)
    with subprocess.Popen(["sleep", "60"]) as process:
        group = Path(f"/proc/{process.pid}/cgroup")
        before = group.read_text()
        with suppress(KeyError), quota.limited(place, 0.5, [process.pid]):
            during = group.read_text()
            raise KeyError
        after = group.read_text()
        process.kill()
    assert "chatserver-bench-" in during
    assert after == before


def test_groups_of_a_killed_bench_are_removed() -> None:
    place = quota.find()
    if place is None:
        pytest.skip(NO_QUOTA)
    with subprocess.Popen(["true"]) as ended:
        pass
    left = place.parent / f"{quota.NAME}-{ended.pid}-0"
    left.mkdir()
    assert quota.find() == place
    assert not left.exists()
    assert not list(place.parent.glob(f"chatserver-bench-{os.getpid()}-*"))


def test_two_workers_beside_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without quotas rates are not judged. The other figures reuse the measured servers."""
    monkeypatch.setattr(quota, "find", lambda: None)
    with workers._servers() as servers:
        monkeypatch.setattr(workers, "_servers", lambda: nullcontext(servers))
        results = list(workers.run(Scale.QUICK))
    assert [result.figure for result in results] == [
        workers.MEMORY, workers.LATER, workers.CONNECT_CPU, workers.PUBLISH_CPU,
    ]  # fmt: skip
    assert all(result.value > 0 for result in results if result.figure.unit == TIMES)
    assert "the rate is not judged" in results[-1].details


def test_rates_are_judged_where_each_worker_has_a_quota() -> None:
    one, two = workers.Turn(cpu=40.0, rate=10_000, theirs=0.5, ours=0.4), workers.Turn(44.0, 17_000, 0.99, 0.7)
    gain, cost = workers._results(workers.PUBLISH, workers.PUBLISH_CPU, [(one, two)], limited=True)
    assert (gain.value, cost.value) == (1.7, 1.1)
    assert "the servers used 99% and 50% of a core, the client 70%" in gain.details
