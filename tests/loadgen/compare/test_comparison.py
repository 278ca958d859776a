"""A small comparison: two peers, and peers that die, with twenty clients."""

import errno
import os
import re
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from rich.console import Console

from loadgen.compare import comparison
from loadgen.compare.catalogue import PEERS, Can, Kit, MissingError, Peer, Script
from loadgen.compare.comparison import Comparison
from loadgen.compare.measure import ENDPOINT, Meter
from loadgen.compare.results import Sample, Scenario, Sizes
from loadgen.compare.scenarios import scenarios
from loadgen.personas import registry
from loadgen.report.schema import Outcome, Report, Table, Verdict, verdict
from loadgen.run.experiment import Probes
from loadgen.run.preflight import InvalidRunError
from loadgen.run.progress import Progress
from tests.loadgen import reports
from tests.loadgen.plays import PATIENCE, SETTLE_SECONDS, plan

SIZES = Sizes(
    crowd=20, beside=20, attackers=20, members=20, publishers=20, victims=20, idle_seconds=0.6, busy_seconds=0.6,
    attack_seconds=2.0,
)  # fmt: skip
EVERYTHING = {scenario.name: scenario for scenario in scenarios([registry()["slow-head"]])}


@pytest.fixture(autouse=True)
def short_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as in the other tests of runs and attacks, and with as many newcomers."""
    monkeypatch.setattr("loadgen.compare.scenarios._BRIEF_SECONDS", 0.6)
    monkeypatch.setattr("loadgen.compare.measure.BASELINE_SECONDS", 0.6)
    monkeypatch.setattr("loadgen.compare.measure.RECOVERY_SECONDS", 0.6)
    monkeypatch.setattr(
        "loadgen.compare.measure.Probes", partial(Probes, newcomers_per_s=2.0, timeout_seconds=PATIENCE)
    )


def match(
    folder: Path, peers: list[Peer], played: list[Scenario], *, repeats: int = 1, told: list[str] | None = None
) -> Comparison:
    return Comparison(
        peers=peers,
        scenarios=played,
        sizes=SIZES,
        repeats=repeats,
        peers_dir=folder,
        measured=replace(
            plan("http://127.0.0.1"),
            progress=Progress(Console(quiet=True)),
            endpoint=ENDPOINT,
            settle_seconds=SETTLE_SECONDS,
        ),
        say=([] if told is None else told).append,
    )


def peer(folder: Path, name: str, code: str) -> Peer:
    (folder / f"{name}.py").write_text(code)
    return Peer(name=name, title="of this test", can=Can.ALL, kit=Script(str(folder / f"{name}.py")))


def table(report: Report, title: str) -> Table:
    return next(each for each in report.tables if each.title.startswith(title))


def _whatever_the_machine_did(*_: object, down: str, **__: object) -> Verdict:
    """The verdict of a measurement on a quiet machine; on a busy one figures are withheld, and all of them may be."""
    return verdict(Outcome.FELL_SHORT, [down]) if down else verdict(Outcome.HELD, [])


DIES = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
for number in range({connections}):
    listener.accept()
sys.exit("out of memory, or so it says")
"""


@pytest.mark.slow
async def test_every_scenario_fills_its_table_and_a_server_that_dies_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it answers, after it answered, and in the middle."""
    monkeypatch.setattr("loadgen.run.findings.decide", _whatever_the_machine_did)
    monkeypatch.setattr("loadgen.run.player.CROWD_NICENESS", 0)
    mortals = [
        replace(peer(tmp_path, f"mortal-{number}", DIES.format(connections=number)), groups=frozenset({"attack"}))
        for number in (0, 1, 5)
    ]
    dead = [mortal.name for mortal in mortals]
    peers = [PEERS["floor"], replace(PEERS["trio-websocket"], groups=frozenset({"idle", "poll"})), *mortals]
    report = await match(tmp_path, peers, list(EVERYTHING.values())).play()
    assert report.outcome is Outcome.HELD, report.verdict
    assert report.verdict.reasons[0] == "8 measurements of 2 servers"
    for title, column, servers in (
        ("Idle", "CPU per connection-second, us", ["floor", "trio-websocket"]),  # twenty are too few for a memory
        ("New", "a second", ["floor", "trio-websocket"]),
        ("Held", "opened a second", ["floor"]),  # trio-websocket has no polls
        ("Fan-out", "flood: deliveries/s", ["floor"]),
        ("Throughput", "beside them", ["floor"]),
        ("Attack: slow-head", "victims' success, %", ["floor", *dead]),
    ):
        found = table(report, title)
        assert [row[0].rstrip("*") for row in found.rows] == servers
        assert all(row[found.columns.index(column)] for row in found.rows if row[0] not in dead), found
    assert (report.command, report.target) == ("compare", ", ".join(peer.name for peer in peers))

    throughput = table(report, "Throughput")
    assert throughput.columns[1] == "connections beside"
    assert [row[1] for row in throughput.rows] == ["20"]
    attack = table(report, "Attack")
    floor = dict(zip(attack.columns, attack.rows[0], strict=True))
    assert (floor["victims' success, %"], floor["newcomers served, %"]) == ("100", "100")
    assert 0 < int(floor["attackers at most"]) <= 20
    for row in attack.rows[1:]:
        assert row[1] == "ended with exit code 1: out of memory, or so it says"
        assert not any(row[2:])
        assert any(f"attack-slow-head, {row[0]}: ended with" in reason for reason in report.verdict.reasons)
    assert [row[0] for row in table(report, "Servers").rows] == ["floor", "trio-websocket", *dead]
    assert "trio-websocket " in table(report, "Servers").rows[1][2]

    assert {part.target for part in report.parts} == {"floor", "trio-websocket"}
    assert {part.command for part in report.parts} == {
        "idle", "poll", "fanout paced", "fanout flood", "beside alone", "beside beside", "attack-slow-head",
    }  # fmt: skip


SHUTS_OUT = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
while True:
    listener.accept()[0].close()
"""


async def test_servers_take_turns_and_one_that_lets_nobody_in_is_a_row(tmp_path: Path) -> None:
    told: list[str] = []
    peers = [peer(tmp_path, name, SHUTS_OUT) for name in ("bouncer", "doorman")]
    made = match(tmp_path, peers, [EVERYTHING["idle"]], repeats=2, told=told)
    empty = replace(SIZES, idle_seconds=0.1)  # nobody is there
    report = await replace(made, sizes=empty).play()
    turns = [f"idle, round {number} of 2: {each.name}" for number in (1, 2) for each in peers]
    assert [line.rpartition(", about ")[0] for line in told if "round" in line] == turns
    assert report.outcome is Outcome.INVALID, "nothing was measured"
    assert re.fullmatch(
        r"nobody was established: (closed|connection reset by peer|, )+", table(report, "Idle").rows[0][1]
    )
    [attack] = [scenario for name, scenario in EVERYTHING.items() if "slow-head" in name]
    report = await match(tmp_path, peers[:1], [attack]).play()
    found = r"only 0 of 20 victims could do their work before the attack: (closed|reset)"
    assert re.fullmatch(found, report.tables[0].rows[0][1])


SILENT = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=100)
time.sleep(600)
"""


async def test_the_time_left_is_told_by_what_the_measurements_so_far_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow machine it measured for 45 minutes instead of 12, and nothing told when it would end."""
    clock = [100.0]

    async def play(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
        clock[0] += 30.0
        return {}

    monkeypatch.setattr(comparison, "now", lambda: clock[0])
    told: list[str] = []
    played = [replace(EVERYTHING["idle"], play=play, needs=Can(0), seconds=10)]
    peers = [Peer(name=name, title="", can=Can(0), kit=Kit(), url=f"http://127.0.0.1:{name}") for name in ("1", "2")]
    await match(tmp_path, peers, played, repeats=2, told=told).play()
    left = [line.rpartition(", about ")[2] for line in told]
    assert left == ["40 s left", "1 min 30 s left", "1 min left", "30 s left"]


async def test_a_measurement_that_takes_too_long_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MEASUREMENT_SECONDS", 0.5)  # clients give up after 30
    peers = [peer(tmp_path, "silent", SILENT)]
    report = await match(tmp_path, peers, [EVERYTHING["idle"]]).play()
    assert table(report, "Idle").rows[0][1] == "not measured in 0.5 s"


async def test_a_crowd_that_cannot_be_played_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the comparison, as a fault of the generator's own and without a report."""

    async def play(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
        async with meter.beside({"idle": 1}):
            return {}

    no_worker = AsyncMock(side_effect=InvalidRunError("no process could start"))
    monkeypatch.setattr("loadgen.compare.measure.spawn", no_worker)
    played = [replace(EVERYTHING["beside"], play=play)]
    report = await match(tmp_path, [PEERS["floor"]], played).play()
    assert report.tables[0].rows[0][1] == "no process could start"


async def test_what_cannot_be_installed_is_skipped_with_a_line(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "homes").mkdir()
    (tmp_path / "homes" / "odd").touch()  # a file, where the folder of its environment would be
    odd = replace(peer(tmp_path, "odd", ""), kit=Script("odd.py", needs=["no-such-thing[at-all]"]))
    played = [EVERYTHING["idle"]]
    report = await match(tmp_path / "homes", [PEERS["floor"], odd], played, told=told).play()
    assert [row[0] for row in table(report, "Idle").rows] == ["floor"]
    assert any(line.startswith("skipping odd: ") for line in told)
    assert any(reason.startswith("odd skipped: ") for reason in report.verdict.reasons)
    assert "File exists" in table(report, "Servers").rows[1][2]


class Full(Kit):
    """The disk is full, or its folder may not be looked into."""

    def __init__(self, *, ready: bool | None) -> None:
        self._ready = ready

    def is_ready(self, home: Path) -> bool:
        if self._ready is None:
            raise PermissionError(errno.EACCES, "Permission denied", str(home))
        return self._ready

    def install(self, home: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(home))

    def command(self, home: Path, work: Path, port: int, ping_seconds: float) -> list[str]:
        raise OSError(errno.ENOSPC, "No space left on device")


class Nowhere(Kit):
    def find(self) -> None:
        raise MissingError("apt install it")

    def recipe(self) -> str:
        return "what is not there"


async def test_a_full_disk_is_a_row_of_its_peer(tmp_path: Path) -> None:
    """It ended the comparison, as an error of standard output; a folder that may not be read did, too."""
    ready = {"ready": True, "new": False, "closed": None}
    peers = [Peer(name=name, title="", can=Can.ALL, kit=Full(ready=each)) for name, each in ready.items()]
    peers.append(Peer(name="nowhere", title="", can=Can.ALL, kit=Nowhere()))
    report = await match(tmp_path, peers, [EVERYTHING["idle"]]).play()
    assert table(report, "Idle").rows[0][1] == "could not be started: [Errno 28] No space left on device"
    assert "No space left on device" in table(report, "Servers").rows[1][2]
    assert "Permission denied" in table(report, "Servers").rows[2][2]
    assert table(report, "Servers").rows[3][2] == "apt install it"
    assert report.target == "ready", "the others were skipped"


async def test_ctrl_c_during_a_measurement_ends_it_without_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other time the next server was begun, and the last had a row that said "withheld: "."""
    monkeypatch.setattr("loadgen.compare.measure.Player.play", AsyncMock(return_value=reports.interrupted()))

    async def play(meter: Meter, peer: Peer, sizes: Sizes) -> Sample:
        return (await meter.run({"idle": 1}, seconds=1.0)).figures

    played = [replace(EVERYTHING["idle"], play=play, needs=Can(0))]
    peers = [Peer(name=name, title="", can=Can(0), kit=Kit(), url=f"http://127.0.0.1:{name}") for name in ("1", "2")]
    for _ in range(20):  # which task a stop wakes first is random
        told: list[str] = []
        report = await match(tmp_path, peers, played, told=told).play()
        assert report.outcome is Outcome.INTERRUPTED
        assert told == ["idle, round 1 of 1: 1, about 30 s left"]
        assert table(report, "Idle").rows == []


class Absent(Kit):
    """Somebody presses Ctrl-C while it looks whether it can be installed."""

    def __init__(self) -> None:
        self._usual = signal.getsignal(signal.SIGINT)

    def find(self) -> None:
        raise MissingError("apt install it")

    def install(self, home: Path) -> None:
        while signal.getsignal(signal.SIGINT) is self._usual:  # until the comparison listens for signals
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)

    def versions(self, home: Path) -> str:
        self.find()
        return ""


async def test_ctrl_c_during_an_installation_ends_with_a_report(tmp_path: Path) -> None:
    """It ended with an exception: nobody knew yet that the server is not there."""
    peers = [Peer(name="absent", title="of this test", can=Can.ALL, kit=Absent())]
    report = await match(tmp_path, peers, [EVERYTHING["idle"]]).play()
    assert report.outcome is Outcome.INTERRUPTED
    assert table(report, "Servers").rows[0][2] == "apt install it"
