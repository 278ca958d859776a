"""A small `make million`: its counts, when it stops, and that it leaves nothing behind.

The program runs in its own process, because it forks and the process of the tests has threads.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from chatserver.net.admission import HIGH_WATER
from chatserver.net.descriptors import connection_limit
from loadgen.latency import Latency
from loadgen.target import find
from tests.bench.gauges import tcp_pages
from tests.million import __main__ as million_program
from tests.million import needs, table
from tests.million.holder import Status
from tests.million.memory import Memory
from tests.million.needs import MARGIN_BYTES, UNEVENNESS, Machine, NotEnoughError, must_stop, plan
from tests.million.opening import STUCK, Opening
from tests.million.probes import Beside, Everywhere
from tests.million.run import Idle, Options, Outcome, Row
from tests.support.running import SESSION, all_running

GIB = 1 << 30
MACHINE = Machine(
    descriptors=20_000, files=2_466_177, watches=5_491_511, available=22 * GIB, ports=28_232, backlog=4_096,
    tracked=None,
)  # fmt: skip
COMMAND = [sys.executable, "-m", "tests.million", "--workers", "2", "--idle-seconds", "0.2", "--beside-seconds", "0.3"]
#: Seconds after which a run of some hundred connections has failed: generous, since a slow machine is no fault.
LIFE = 300


# -- the whole of it --------------------------------------------------------------------------------------------------


def test_some_hundred(tmp_path: Path) -> None:
    report = tmp_path / "million.md"
    flags = ["--connections", "300", "--room-size", "100", "--ping-interval", "1", "--markdown", str(report)]
    flags += ["--idle-seconds", "2.5"]  # time for a ping even if the machine stops for 2 s
    done = subprocess.run([*COMMAND, *flags], check=False, capture_output=True, text=True, timeout=LIFE)
    assert done.returncode == 0, done.stdout + done.stderr
    text = report.read_text()
    assert "Idle WebSockets in rooms: 300 of 300" in text
    assert "FAULT" not in text
    assert "ended or refused, those of the probes too: " in text
    [row] = [line.split(" | ") for line in text.splitlines() if line.startswith("| 300 ")]
    assert float(row[table.COLUMNS.index("pings/s")]) > 0, text
    assert text.strip() in done.stdout


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    flags = ["--connections", "200", "--ping-interval", "3600"]
    with subprocess.Popen(
        [*COMMAND, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as running:  # fmt: skip
        try:
            assert running.stderr is not None
            line = running.stderr.readline()
            while not line.startswith("idle"):
                assert line, "it ended"
                line = running.stderr.readline()
            os.killpg(running.pid, signal.SIGINT)  # as a terminal does
            output, errors = running.communicate(timeout=LIFE)
            assert running.returncode == 130, errors
            assert "Interrupted: what had been measured until then." in output
            assert str(running.pid) not in [fields[SESSION] for _, fields in all_running()]
            assert not list(tmp_path.iterdir())
        finally:
            running.kill()


def test_limits_of_the_machine_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["million", "--workers", "2", "--connections", "100000000"])
    assert million_program.main() == 2
    assert "workers hold" in capsys.readouterr().err


# -- what it needs ----------------------------------------------------------------------------------------------------


def test_a_million_here() -> None:
    million = plan(1_000_000, MACHINE)
    assert (million.workers, million.holders, million.each) == (55, 53, 19_000)
    assert million.steps == [10_000, 50_000, 100_000, 200_000, 400_000, 600_000, 800_000, 1_000_000]
    assert million.note == ""


def test_no_worker_evicts_connections() -> None:
    """With 53 workers at 990,000 connections, one that is too full would evict a connection and end the run."""
    fullest = 1_000_000 / plan(1_000_000, MACHINE).workers * UNEVENNESS
    assert fullest < HIGH_WATER * connection_limit(0, descriptors=MACHINE.descriptors)


def test_few_are_one_step() -> None:
    few = plan(300, MACHINE)
    assert (few.workers, few.holders, few.steps) == (2, 1, [300])


def test_more_descriptors_need_fewer_workers() -> None:
    assert plan(1_000_000, replace(MACHINE, descriptors=1 << 20)).workers == 2


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (replace(MACHINE, files=1_000_000), "fs.file-max leaves 1,000,000: raise it, or use --connections 490000"),
        (replace(MACHINE, watches=100_000), "max_user_watches is 100,000: raise it, or use --connections 50000"),
        (replace(MACHINE, ports=100), "ip_local_port_range has 100 ports; 200 are needed"),
        (replace(MACHINE, tracked=262_144), "the firewall follows connections, 262,144 at most"),
    ],
    ids=["files", "watches", "ports", "firewall"],
)
def test_a_missing_resource_is_reported_with_the_needed_value(machine: Machine, said: str) -> None:
    with pytest.raises(NotEnoughError, match=said):
        plan(1_000_000, machine)


def test_too_few_workers() -> None:
    with pytest.raises(NotEnoughError, match=r"2 workers hold 36,400 connections, .* use --workers 55"):
        plan(1_000_000, MACHINE, workers=2)


def test_a_run_begins_though_memory_will_be_short() -> None:
    short = plan(1_000_000, replace(MACHINE, available=8 * GIB))
    assert short.note.startswith("memory will be short: ")
    nothing = plan(1_000_000, replace(MACHINE, available=GIB))
    assert nothing.note.endswith("it stops at about 0 connections")


def test_this_machine_can_be_read() -> None:
    machine = Machine.read()
    assert min(machine.descriptors, machine.files, machine.watches, machine.available, machine.ports) > 0


def test_the_margin() -> None:
    assert must_stop(MARGIN_BYTES, MARGIN_BYTES) is None
    assert must_stop(MARGIN_BYTES - 1, MARGIN_BYTES) == "2.00 GiB of memory are available, less than the margin of 2.00"


# -- opening ----------------------------------------------------------------------------------------------------------


class Machinery:
    """A fake of `Holders`: 100 connections of 50 KB are opened at each wait."""

    def __init__(self, available: int = 10 * GIB, *, most: int = 1 << 30) -> None:
        self.available = available
        self.most = most
        self.now = 0.0
        self.held = self.unopened = 0
        self.lost: Counter[str] = Counter()
        self.orders: list[tuple[int, int]] = []
        self.stopped = False

    def open(self, _target: object, first: int, end: int, _room_size: int) -> int:
        end = min(end, (first // 1_000 + 1) * 1_000)
        self.orders.append((first, end))
        self.unopened += end - first
        return end

    def stop(self) -> None:
        self.stopped = True
        self.unopened = 0

    def status(self) -> Status:
        return Status(
            held=self.held, arriving=0, unopened=self.unopened, pings=0, heard=0, last_heard=0.0, lost=self.lost
        )  # fmt: skip

    def wait(self, seconds: float) -> None:
        self.now += seconds
        opened = min(100, self.unopened, self.most - self.held)
        self.unopened -= opened
        self.held += opened
        self.available -= 50_000 * opened

    def opening(self, *, seconds: float = 1e6) -> Opening:
        return Opening(
            self, find("http://127.0.0.1:9"), room_size=1_000, margin=2 * GIB, seconds=seconds, wait=self.wait,
            available=lambda: self.available, clock=lambda: self.now,
        )  # fmt: skip


def test_steps_are_opened_process_by_process() -> None:
    machinery = Machinery()
    told: list[int] = []
    opening = machinery.opening()
    assert opening.up_to(1_500, told.append) is None
    assert opening.up_to(2_500, told.append) is None
    assert machinery.orders == [(0, 1_000), (1_000, 1_500), (1_500, 2_000), (2_000, 2_500)]
    assert told[-1] == machinery.held == 2_500
    assert not machinery.stopped


def test_opening_stops_at_the_margin() -> None:
    machinery = Machinery(2 * GIB + 100_000_000)
    reason = machinery.opening().up_to(10_000, lambda held: None)
    assert reason is not None
    assert "less than the margin" in reason
    assert machinery.stopped
    assert machinery.held == 2_100  # 5 MB at each check; at this one 100 MB are used


@pytest.mark.parametrize(
    ("machinery", "seconds", "said"),
    [
        (Machinery(most=500), 1e6, f"none came for {STUCK:g} s"),
        (Machinery(), 0.5, "0.00833333 minutes are over"),
    ],
    ids=["nobody comes", "time is over"],
)
def test_opening_stops(machinery: Machinery, seconds: float, said: str) -> None:
    assert machinery.opening(seconds=seconds).up_to(10_000, lambda held: None) == said
    assert machinery.stopped


def test_a_lost_connection_stops_it() -> None:
    machinery = Machinery()
    machinery.lost["ECONNRESET"] = 3
    assert machinery.opening().up_to(10_000, lambda held: None) == "3 connections were lost or refused"


# -- results ----------------------------------------------------------------------------------------------------------


def test_the_table_divides_by_what_is_held() -> None:
    outcome = Outcome(plan(20_000, MACHINE), Options())
    outcome.empty = Memory(server=100 << 20, clients=10 << 20, kernel=0, taken=120 << 20)
    outcome.empty_idle = Idle(seconds=5, server_cpu=0.05, clients_cpu=0, pings=0)
    deliveries = Latency()
    deliveries.record(0.002)
    outcome.rows.append(Row(
        clients=10_000, server=9_999, opened_a_second=4_000.0,
        memory=Memory(server=5_000_000, clients=1_000_000, kernel=80_000_000, taken=90_000_000),
        idle=Idle(seconds=10, server_cpu=0.5, clients_cpu=0.25, pings=830), everywhere=Everywhere(1_000, 0.0123),
        members=1_000, beside=Beside(deliveries, 0, Latency()),
    ))  # fmt: skip
    outcome.stopped = "memory was short"
    found = table.table(outcome)
    assert dict(zip(found.columns, found.rows[0], strict=True)) == {
        "connections": "10,000", "as the server counts": "9,999", "opened/s": "4,000",
        "server, B each": "500", "clients, B each": "100",
        "kernel, B each": "8,000", "available less by, B each": "9,000", "GiB in all": "0.20",
        "server's CPU, cores": "0.050", "µs a connection-second": "5", "pings/s": "83", "clients' CPU, cores": "0.025",
        "message to all workers: last of them, ms": "12.3", "busy room: p50, p99, ms": "2, 2",
        "newcomers: p50, p99, ms": "-, -",
    }  # fmt: skip
    assert found.notes[0] == "As many as fit: 10,000, because memory was short."


def test_a_run_without_a_step_has_a_table() -> None:
    assert table.table(Outcome(plan(20_000, MACHINE), Options())).rows == []


def test_memory_between_two_moments() -> None:
    later, before = Memory(10, 20, 30, -40), Memory(1, 2, 3, -100)
    assert later - before == Memory(9, 18, 27, 60)


def test_pages_of_tcp() -> None:
    assert tcp_pages("sockets: used 36\nTCP: inuse 9 orphan 0 tw 199 alloc 9 mem 199\nUDP: inuse 0 mem 0\n") == 199


def test_meminfo_is_in_bytes() -> None:
    assert needs.meminfo()["MemTotal"] >= needs.available() > 1 << 20
