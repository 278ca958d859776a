"""A small `make million`: its counts, when it stops, and that it leaves nothing behind.

The program runs in a process of its own, because it forks and the process of the tests has threads.
"""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatserver.cli import run_command
from chatserver.net.admission import HIGH_WATER
from chatserver.net.descriptors import connection_limit
from loadgen.report.latency import Latency
from tests.million import __main__ as million_program
from tests.million import table
from tests.million.memory import Memory
from tests.million.needs import MARGIN_BYTES, STUCK, UNEVENNESS, Machine, NotEnoughError, plan, reason_to_stop
from tests.million.probes import Beside, Everywhere
from tests.million.run import Idle, Options, Outcome, Row, server_flags
from tests.support.forking import fork
from tests.support.running import SESSION, all_running

GIB = 1 << 30
MACHINE = Machine(
    descriptors=20_000, files=2_466_177, watches=5_491_511, available=22 * GIB, ports=28_232, tracked=None
)  # fmt: skip
OPTIONS = Options(
    room_size=10_000, ping_interval=120, idle_seconds=5, beside_seconds=10, margin=MARGIN_BYTES, most_seconds=900
)  # fmt: skip
SHORT = ("--idle-seconds", "0.2", "--beside-seconds", "0.3", "--connections", "20")
#: Seconds after which a run of some hundred connections has failed: generous, since a slow machine is no fault.
LIFE = 300


# -- the whole of it --------------------------------------------------------------------------------------------------


def shown(file: Path, *flags: str, descriptors: int = 0) -> str:
    """What a run prints that ends well; `descriptors` is its `ulimit -n`."""
    with Path(os.devnull).open("rb") as nothing, file.open("wb") as output:
        program = fork(
            million_program.__name__, *SHORT, *flags, stdin=nothing.fileno(), stdout=output.fileno(),
            stderr=output.fileno(), most_descriptors=descriptors,
        )  # fmt: skip
        code = program.wait(LIFE)
    assert code == 0, file.read_text()
    return file.read_text()


def test_some_hundred_connections_need_two_processes(tmp_path: Path) -> None:
    """With 300 descriptors for each process, 300 connections take two processes of clients.

    Of two workers one would now and then get more than it may hold without evicting any: with the probes' there are 400
    connections, and the kernel spreads them by chance.
    """
    flags = ["--workers", "3", "--connections", "300", "--room-size", "100", "--ping-interval", "1"]
    flags += ["--idle-seconds", "2.5"]  # time for a ping even if the machine stops for 2 s
    text = shown(tmp_path / "output", *flags, descriptors=300)
    assert "Idle WebSockets in rooms: 300 of 300" in text
    assert "3 workers, 2 processes of clients" in text
    assert "FAULT" not in text
    assert "ended or refused, those of the probes too: " in text
    [row] = [line.split(" | ") for line in text.splitlines() if line.startswith("| 300 ")]
    assert float(row[table.COLUMNS.index("pings/s")]) > 0, text


def test_it_stops_when_no_more_fit(tmp_path: Path) -> None:
    """With a margin of a petabyte there is too little memory at the first look."""
    text = shown(tmp_path / "output", "--workers", "1", "--ping-interval", "1", "--margin", "1000000")
    assert re.search(r"As many as fit: \d+, because .* less than the margin of 1000000", text), text


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.million", *SHORT, "--workers", "1", "--ping-interval", "3600"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
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


def test_the_plan_for_a_million_on_one_machine() -> None:
    million = plan(1_000_000, MACHINE)
    assert (million.workers, million.holders, million.each) == (55, 53, 19_000)
    assert million.steps == [10_000, 50_000, 100_000, 200_000, 400_000, 600_000, 800_000, 1_000_000]
    assert million.note == ""


def test_no_worker_evicts_connections() -> None:
    """With 53 workers at 990,000 connections, one that is too full would evict a connection and end the run."""
    fullest = 1_000_000 / plan(1_000_000, MACHINE).workers * UNEVENNESS
    assert fullest < HIGH_WATER * connection_limit(0, descriptors=MACHINE.descriptors)


def test_the_server_takes_the_flags_for_a_million() -> None:
    """It ended at once: --max-connections was 1.09648e+06, which is not a whole number."""
    assert run_command(["limits", *server_flags(plan(1_000_000, MACHINE), OPTIONS)]) == 0


def test_more_descriptors_need_fewer_workers() -> None:
    assert plan(1_000_000, replace(MACHINE, descriptors=1 << 20)).workers == 2


def test_a_missing_resource_is_reported_with_the_needed_value() -> None:
    for machine, said in (
        (replace(MACHINE, files=1_000_000), "fs.file-max leaves 1,000,000: raise it, or use --connections 490000"),
        (replace(MACHINE, watches=100_000), "max_user_watches is 100,000: raise it, or use --connections 50000"),
        (replace(MACHINE, ports=100), "ip_local_port_range has 100 ports; 200 are needed"),
        (replace(MACHINE, tracked=262_144), "the firewall follows connections, 262,144 at most"),
    ):
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


def test_the_reasons_to_stop() -> None:
    well = {"available": MARGIN_BYTES, "margin": MARGIN_BYTES, "lost": 0, "unchanged": STUCK, "seconds": 30.0}
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, ""),
        ({"available": MARGIN_BYTES - 1}, "2.00 GiB of memory are available, less than the margin of 2.00"),
        ({"lost": 3}, "3 connections were lost or refused"),
        ({"unchanged": STUCK + 1}, "none came for 60 s"),
        ({"seconds": 31.0}, "0.5 minutes are over"),
    )
    for now, said in cases:
        assert reason_to_stop(**{**well, **now}, most=30.0) == said


# -- results ----------------------------------------------------------------------------------------------------------


def test_the_table_divides_by_what_is_held() -> None:
    outcome = Outcome(plan(20_000, MACHINE), OPTIONS)
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
