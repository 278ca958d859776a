"""How much memory the process may use, and the limits that follow from it."""

import resource
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest

from chatserver.settings.fields import Settings
from chatserver.settings.memory import OWN_BYTES, limits_within, memory_limit
from chatserver.settings.sources import load_settings
from chatserver.settings.spec import ConfigError

MIB = 1 << 20
PHYSICAL = 4096 * MIB


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """4 GiB of memory, and no limit on the address space."""
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": PHYSICAL // 4096}.__getitem__)
    monkeypatch.setattr(resource, "getrlimit", Mock(return_value=(resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
    return monkeypatch


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (None, {}, PHYSICAL),  # no /proc
        (None, {"memory.max": f"{128 * MIB}\n"}, 128 * MIB),
        ("0::/\n", {}, PHYSICAL),
        ("0::/\n", {"memory.max": "max\n", "memory.high": "max\n"}, PHYSICAL),
        ("0::/\n", {"memory.max": f"{128 * MIB}\n", "memory.high": f"{96 * MIB}\n"}, 96 * MIB),
        # systemd's MemoryMax= of the service, and of the slice that it is in
        ("0::/a.slice/b:c\n", {"a.slice/b:c/memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        ("0::/a.slice/b\n", {"a.slice/b/memory.max": "max\n", "a.slice/memory.max": f"{64 * MIB}\n"}, 64 * MIB),
        ("0::/\udcff/b\n", {"memory.max": f"{64 * MIB}\n"}, 64 * MIB),  # any byte may be in a name
        ("0::/a.slice/b\n", {"a.slice/c/memory.max": f"{64 * MIB}\n"}, PHYSICAL),
        # a container sees the path of its group on the host, but not the group
        ("0::/../../docker/0f\n", {"memory.max": f"{64 * MIB}\n"}, 64 * MIB),
        # the older version, whose limit is a huge number when there is none
        ("4:cpu:/x\n3:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": f"{64 * MIB}\n"}, 64 * MIB),
        ("4:cpu:/x\n3:memory:/y\n0::/\n", {"memory/x/memory.limit_in_bytes": f"{64 * MIB}\n"}, PHYSICAL),
        ("3:hugetlb,memory:/x\n", {"memory/memory.limit_in_bytes": f"{64 * MIB}\n"}, 64 * MIB),
        ("3:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, PHYSICAL),
    ],
)
def test_the_least_limit_around_the_process_counts(
    tmp_path: Path, groups: str | None, files: dict[str, str], expected: int
) -> None:
    for name, text in {f"sys/fs/cgroup/{name}": text for name, text in files.items()}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups, errors="surrogateescape")
    assert memory_limit(tmp_path) == expected


def test_the_address_space_counts_less_what_threads_reserve(tmp_path: Path, machine: pytest.MonkeyPatch) -> None:
    """With too little the server ended with a traceback, of a MemoryError or of a thread that could not start."""
    machine.setattr(resource, "getrlimit", Mock(return_value=(1024 * MIB, resource.RLIM_INFINITY)))
    assert memory_limit(tmp_path) == 960 * MIB
    machine.setattr(resource, "getrlimit", Mock(return_value=(80 * MIB, 80 * MIB)))
    with pytest.raises(ConfigError, match="192 MiB of address space are needed, and RLIMIT_AS allows 80"):
        memory_limit(tmp_path)


def within(memory: int, workers: int = 1, **flags: str) -> Settings:
    return load_settings({"workers": str(workers), **flags}, {}, None, partial(limits_within, memory))


def test_small_memory_lowers_what_is_not_set() -> None:
    assert within(128 * MIB) == Settings(max_rooms=4608, all_rings_bytes=9 * MIB)
    assert within(128 * MIB, max_rooms="50000") == Settings(max_rooms=50_000, all_rings_bytes=9 * MIB)
    assert within(64 << 30) == Settings()


def test_each_worker_takes_memory_of_its_own() -> None:
    assert within(512 * MIB, 4).all_rings_bytes == within(512 * MIB - 3 * OWN_BYTES).all_rings_bytes
    assert within(MIB, 4) == Settings(workers=4, max_rooms=512, all_rings_bytes=MIB), "else it is of no use"
